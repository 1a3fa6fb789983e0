"""Tables, figures, the page, and cards for what is published.

Texts of the study go through functions: in a plain parameter a `{question}` would be a wildcard.
"""


rule tables:
    input:
        scores(),
    output:
        main=report(
            "<results>/tables/main.csv",
            caption="../report/main.rst",
            category="Results",
            labels={"table": "means and intervals"},
        ),
        differences=report(
            "<results>/tables/differences.csv",
            caption="../report/differences.rst",
            category="Results",
            labels={"table": "differences to the base"},
        ),
        markdown="<results>/tables/main.md",
    log:
        "<results>/logs/tables.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        arguments=lambda wildcards: flags(
            bases=json.dumps(study.bases()),
            metrics=json.dumps(study.table.metrics),
            labels=json.dumps(study.report.labels),
            seed=study.seed,
        ),
        code=code("tables.py", *of_kinds("score", *study.benchmarks.values())),
    message:
        "Tables"
    shell:
        'python "$MMPREF"/scripts/tables.py {params.arguments} --scores {input}'
        " --table {output.main} --differences {output.differences} --text {output.markdown}"
        " 2>&1 | tee -i {log}"


# Apart from `tables`: a published number that is edited draws no figure anew.
rule published:
    input:
        "<results>/tables/main.csv",
    output:
        table=report(
            "<results>/tables/published.csv",
            caption="../report/published.rst",
            category="Results",
            labels={"table": "beside published numbers"},
        ),
        markdown="<results>/tables/published.md",
    log:
        "<results>/logs/published.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        arguments=lambda wildcards: flags(
            comparison=study.comparison(), labels=json.dumps(study.report.labels)
        ),
        code=code("published.py"),
    message:
        "Published numbers beside own ones"
    shell:
        'python "$MMPREF"/scripts/published.py {params.arguments} --table {input}'
        " --output {output.table} --text {output.markdown} 2>&1 | tee -i {log}"


rule figures:
    input:
        table="<results>/tables/main.csv",
        metrics=runs_and_seeds("<results>/runs/{run}/seed{seed}/metrics.jsonl", TRAINED),
        statistics=[f"<results>/preferences/{name}/statistics.json" for name in SAMPLED],
    output:
        report(
            directory("<results>/report/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "<results>/logs/figures.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        arguments=lambda wildcards: flags(
            runs=study.runs,
            bases=json.dumps(study.bases()),
            colours=json.dumps(study.report.colours),
            labels=json.dumps(study.report.labels),
        ),
        files=lambda wildcards, input: flags(
            metrics=input.metrics, statistics=input.statistics
        ),
        code=code("figures.py"),
    message:
        "Figures"
    shell:
        'python "$MMPREF"/scripts/figures.py {params.arguments} {params.files}'
        " --table {input.table} --output {output} 2>&1 | tee -i {log}"


rule page:
    input:
        scores=scores(),
        benchmark_items=[
            f"<results>/benchmarks/{name}/items.parquet" for name in study.benchmarks
        ],
        table="<results>/tables/main.csv",
        differences="<results>/tables/differences.csv",
        published=["<results>/tables/published.csv"] if study.published else [],
        figures="<results>/report/figures",
        # Every seed of a run is trained on the same pairs.
        trained=[
            f"<results>/runs/{name}/seed{run.seeds[0]}/run.json"
            for name, run in TRAINED.items()
        ],
        preferences=[
            f"<results>/preferences/{name}/{file}"
            for name in SAMPLED
            for file in ("pairs.parquet", "statistics.json")
        ],
        datasets=[
            f"<results>/datasets/{name}/dataset.json"
            for name in origins.datasets_of(study)
        ],
    output:
        report(
            "<results>/report/index.html",
            caption="../report/page.rst",
            category="Results",
            labels={"table": "the report page"},
        ),
    log:
        "<results>/logs/page.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        arguments=lambda wildcards: flags(
            settings=study.report,
            study=yaml.safe_dump(
                study.model_dump(mode="json", exclude_unset=True), sort_keys=False
            ),
            name=study.name,
            comparison=study.comparison(),
            **elsewhere(),
            bases=json.dumps(study.bases()),
            seed=study.seed,
        ),
        files=lambda wildcards, input: flags(
            datasets=input.datasets,
            published=input.published,
            trained=input.trained,
            preferences=sorted({os.path.dirname(path) for path in input.preferences}),
        ),
        code=code("page.py", *of_kinds("score", *study.benchmarks.values())),
    message:
        "The report page"
    shell:
        'python "$MMPREF"/scripts/page.py {params.arguments} {params.files}'
        " --scores {input.scores} --items {input.benchmark_items} --table {input.table}"
        " --differences {input.differences} --figures {input.figures} --output {output}"
        " 2>&1 | tee -i {log}"


# A rule of its own: what is scored later changes the card, and no training.
rule published_adapter:
    input:
        unpack(lambda wildcards: card_files(study.runs[wildcards.run].preferences)),
        adapter="<results>/runs/{run}/seed{seed}/adapter",
        run="<results>/runs/{run}/seed{seed}/run.json",
        table=main_table,
    output:
        directory("<results>/published/{run}/seed{seed}"),
    log:
        "<results>/logs/published_adapter/{run}-seed{seed}.log",
    wildcard_constraints:
        run=names(TRAINED),
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        arguments=lambda wildcards: flags(
            **card_arguments(study.runs[wildcards.run].preferences),
            model=origin_of(study.runs[wildcards.run].model),
            base_run=study.bases().get(wildcards.run),
        ),
        files=lambda wildcards, input: flags(table=input.table),
        code=code("published_adapter.py"),
    message:
        "Adapter and card of {wildcards.run}, seed {wildcards.seed}, to publish"
    shell:
        'python "$MMPREF"/scripts/published_adapter.py {params.arguments} {params.files}'
        " --pairs {input.pairs} --dataset {input.dataset}"
        " --adapter {input.adapter} --run {input.run} --output {output} 2>&1 | tee -i {log}"


rule pairs_card:
    input:
        unpack(lambda wildcards: card_files(wildcards.preferences)),
    output:
        "<results>/preferences/{preferences}/README.md",
    log:
        "<results>/logs/pairs_card/{preferences}.log",
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        arguments=lambda wildcards: flags(**card_arguments(wildcards.preferences)),
        code=code("pairs_card.py"),
    message:
        "The card of the pairs {wildcards.preferences}"
    shell:
        'python "$MMPREF"/scripts/pairs_card.py {params.arguments}'
        " --pairs {input.pairs} --dataset {input.dataset} --output {output} 2>&1 | tee -i {log}"
