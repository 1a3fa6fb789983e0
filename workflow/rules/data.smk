"""Models, preference data and benchmarks: built here, or brought by the user."""


rule toy_model:
    output:
        directory("resources/models/{model}"),
    log:
        "<results>/logs/toy_model/{model}.log",
    benchmark:
        "<results>/timings/toy_model/{model}.tsv"
    wildcard_constraints:
        model=of_source(study.models, "toyworld"),
    conda:
        "../../envs/training.yaml"
    threads: 2
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        arguments=lambda wildcards: flags(
            settings=study.models[wildcards.model], seed=study.seed
        ),
        code=code("toy_model.py"),
    message:
        "Pretraining the toy model {wildcards.model}"
    shell:
        'python "$MMPREF"/scripts/toy_model.py {params.arguments} --threads {threads}'
        " --output {output} 2>&1 | tee -i {log}"


rule assembled_model:
    output:
        directory("resources/models/{model}"),
    log:
        "<results>/logs/assembled_model/{model}.log",
    wildcard_constraints:
        model=of_source(study.models, "assembled"),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=6000,
        runtime=30,
    params:
        arguments=lambda wildcards: flags(
            settings=study.models[wildcards.model], seed=study.seed
        ),
        code=code("assembled_model.py"),
    message:
        "Putting the model {wildcards.model} together"
    shell:
        'python "$MMPREF"/scripts/assembled_model.py {params.arguments}'
        " --output {output} 2>&1 | tee -i {log}"


# As `download`: pinned content, no digest of code, on a machine that reaches the network.
rule hub_model:
    output:
        directory("resources/models/{owner}/{repository}/{revision}"),
    log:
        "<results>/logs/hub_model/{owner}-{repository}-{revision}.log",
    wildcard_constraints:
        owner=r"[\w.-]+",
        repository=r"[\w.-]+",
        revision="[0-9a-f]{40}",
    localrule: True
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=2000,
        runtime=720,
    message:
        "Fetching the model {wildcards.owner}/{wildcards.repository} from the hub"
    shell:
        'python "$MMPREF"/scripts/hub_model.py --repository {wildcards.owner}/{wildcards.repository}'
        " --revision {wildcards.revision} --output {output} 2>&1 | tee -i {log}"


rule hub_dataset:
    output:
        directory("resources/datasets/{owner}/{repository}/{revision}/{selection}"),
    log:
        "<results>/logs/hub_dataset/{owner}-{repository}-{revision}-{selection}.log",
    wildcard_constraints:
        owner=r"[\w.-]+",
        repository=r"[\w.-]+",
        revision="[0-9a-f]{40}",
        selection="[0-9a-f]{8}",
    localrule: True
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=2000,
        runtime=720,
    params:
        arguments=hub_dataset_arguments,
    message:
        "Fetching the dataset {wildcards.owner}/{wildcards.repository} from the hub"
    shell:
        'python "$MMPREF"/scripts/hub_dataset.py {params.arguments} --output {output}'
        " 2>&1 | tee -i {log}"


# As `hub_model`, for files that no model class of transformers reads.
rule bunny_checkpoint:
    output:
        directory("resources/checkpoints/{owner}/{repository}/{revision}"),
    log:
        "<results>/logs/bunny_checkpoint/{owner}-{repository}-{revision}.log",
    wildcard_constraints:
        owner=r"[\w.-]+",
        repository=r"[\w.-]+",
        revision="[0-9a-f]{40}",
    localrule: True
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=2000,
        runtime=720,
    message:
        "Fetching the checkpoint {wildcards.owner}/{wildcards.repository} from the hub"
    shell:
        'python "$MMPREF"/scripts/bunny_checkpoint.py'
        " --repository {wildcards.owner}/{wildcards.repository}"
        " --revision {wildcards.revision} --output {output} 2>&1 | tee -i {log}"


rule bunny_model:
    input:
        lambda wildcards: study.models[wildcards.model].checkpoint,
    output:
        directory("resources/models/{model}"),
    log:
        "<results>/logs/bunny_model/{model}.log",
    wildcard_constraints:
        model=of_source(study.models, "bunny"),
    conda:
        "../../envs/training.yaml"
    resources:
        # A file of weights at a time; the largest has 5 GB.
        mem_mb=8000,
        runtime=60,
    params:
        code=code("bunny_model.py"),
    message:
        "Converting the checkpoint of {wildcards.model} to a LLaVA"
    shell:
        'python "$MMPREF"/scripts/bunny_model.py --checkpoint {input} --output {output}'
        " 2>&1 | tee -i {log}"


rule photos:
    output:
        pairs="resources/datasets/photos{crops}/pairs.jsonl",
        questions="resources/datasets/photos{crops}/questions.jsonl",
        images=directory("resources/datasets/photos{crops}/images"),
    log:
        "<results>/logs/photos{crops}.log",
    wildcard_constraints:
        crops=r"(-\d+-crops)?",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        arguments=lambda wildcards: flags(
            crops=int(wildcards.crops.split("-")[1]) if wildcards.crops else None
        ),
        files=[
            content(f"config/photos/{name}.jsonl") for name in ("pairs", "questions")
        ],
        code=code("photos.py"),
    message:
        "Writing the photographs, a file of every kind"
    shell:
        'python "$MMPREF"/scripts/photos.py {params.arguments} --output $(dirname {output.pairs})'
        ' --files "$MMPREF"/config/photos/{{pairs,questions}}.jsonl'
        " 2>&1 | tee -i {log}"


rule dataset:
    input:
        lambda wildcards: study.datasets[wildcards.dataset].inputs,
    output:
        pairs="<results>/datasets/{dataset}/pairs.parquet",
        about="<results>/datasets/{dataset}/dataset.json",
    log:
        "<results>/logs/dataset/{dataset}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        arguments=lambda wildcards: flags(
            settings=study.datasets[wildcards.dataset],
            seed=study.seed,
            rejected_optional=not needs_rejected(wildcards.dataset),
        ),
        code=lambda wildcards: code("dataset.py", study.datasets[wildcards.dataset]),
    message:
        "Reading and checking the pairs of {wildcards.dataset}"
    shell:
        'python "$MMPREF"/scripts/dataset.py {params.arguments} --output {output.pairs}'
        " 2>&1 | tee -i {log}"


rule benchmark:
    input:
        unpack(benchmark_files),
    output:
        "<results>/benchmarks/{benchmark}/items.parquet",
    log:
        "<results>/logs/benchmark/{benchmark}.log",
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=6000,
        runtime=30,
    params:
        arguments=lambda wildcards: flags(
            settings=settings_of_items(study.benchmarks[wildcards.benchmark]),
            seed=seed_of_items(study.benchmarks[wildcards.benchmark]),
        ),
        files=lambda wildcards, input: flags(
            **{name: input.get(name) for name in ("pairs", "data", "images")}
        ),
        code=lambda wildcards: code(
            "benchmark.py",
            study.benchmarks[wildcards.benchmark],
            *of_kinds("items", study.benchmarks[wildcards.benchmark]),
        ),
    message:
        "Making the benchmark {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/benchmark.py {params.arguments} {params.files}'
        " --output {output} 2>&1 | tee -i {log}"


# What is downloaded is its pinned content: no digest of code is among the parameters, so that
# gigabytes are not fetched again after an edit. Compute nodes seldom reach the network: local.
rule download:
    output:
        directory("resources/benchmarks/{download}"),
    log:
        "<results>/logs/download/{download}.log",
    localrule: True
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        entry=lambda wildcards: json.dumps(DOWNLOADS[wildcards.download]),
    message:
        "Downloading {wildcards.download}"
    shell:
        'python "$MMPREF"/scripts/download.py {wildcards.download} --output {output}'
        " 2>&1 | tee -i {log}"
