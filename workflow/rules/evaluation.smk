"""Answers to the benchmarks, and their scores."""


rule respond_shard:
    input:
        model=run_model,
        adapter=run_adapter,
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
    output:
        "<results>/responses/{run}/seed{seed}/shards/{benchmark}/{shard}.jsonl",
    log:
        "<results>/logs/respond_shard/{run}-seed{seed}-{benchmark}-{shard}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=6000,
        runtime=120,
        gpus_per_node=1,
    params:
        arguments=lambda wildcards, input, output: flags(
            settings=study.responses,
            model=input.model,
            adapter=input.adapter,
            dtype=study.training.dtype,
            items=input.benchmark_items,
            max_new_tokens=study.benchmarks[wildcards.benchmark].max_new_tokens,
            shard=wildcards.shard,
            output=output,
        ),
        code=lambda wildcards: code(
            "respond_shard.py", model=study.runs[wildcards.run].model
        ),
    message:
        "Answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/respond_shard.py {params.arguments} 2>&1 | tee -i {log}'


rule respond:
    input:
        lambda wildcards: [
            f"<results>/responses/{wildcards.run}/seed{wildcards.seed}/shards/{wildcards.benchmark}/{shard}.jsonl"
            for shard in range(study.responses.shards)
        ],
    output:
        "<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
    log:
        "<results>/logs/respond/{run}-seed{seed}-{benchmark}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    message:
        "Putting the answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark} together"
    shell:
        "cat {input} > {output} 2> {log}"


rule judge:
    input:
        judge_access,
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
        responses="<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
        data=benchmark_data,
    output:
        "<results>/judgements/{run}/seed{seed}/{benchmark}.jsonl",
    log:
        "<results>/logs/judge/{run}-seed{seed}-{benchmark}.log",
    wildcard_constraints:
        benchmark=names(JUDGED),
    # Compute nodes seldom reach the network.
    localrule: True
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        judge=lambda wildcards: settings(judge_of(wildcards)),
        runs=lambda wildcards: JUDGED[wildcards.benchmark].judge_runs,
        code=code("judge.py"),
    message:
        "Judging the answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/judge.py --items {input.benchmark_items}'
        " --answers {input.responses} --data {input.data} --judge {params.judge:q}"
        " --judge-runs {params.runs} --output {output} 2>&1 | tee -i {log}"


rule judge_plan:
    input:
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
        responses="<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
        data=benchmark_data,
    output:
        "<results>/judgements/{run}/seed{seed}/{benchmark}.plan.json",
    log:
        "<results>/logs/judge_plan/{run}-seed{seed}-{benchmark}.log",
    wildcard_constraints:
        benchmark=names(JUDGED),
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        judge=lambda wildcards: settings(judge_of(wildcards)),
        runs=lambda wildcards: JUDGED[wildcards.benchmark].judge_runs,
        code=code("judge.py"),
    message:
        "What judging {wildcards.run} (seed {wildcards.seed}) on {wildcards.benchmark} will take"
    shell:
        'python "$MMPREF"/scripts/judge.py --items {input.benchmark_items} --dry-run'
        " --answers {input.responses} --data {input.data} --judge {params.judge:q}"
        " --judge-runs {params.runs} --output {output} 2>&1 | tee -i {log}"


rule score:
    input:
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
        responses="<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
        data=benchmark_data,
        nltk=nltk_data,
        judgements=judgements,
    output:
        metrics="<results>/scores/{run}/seed{seed}/{benchmark}.json",
        verdicts="<results>/scores/{run}/seed{seed}/{benchmark}.parquet",
    log:
        "<results>/logs/score/{run}-seed{seed}-{benchmark}.log",
    conda:
        "../../envs/scoring.yaml"
    resources:
        mem_mb=4000,
        runtime=20,
    params:
        data=lambda wildcards, input: f"--data {input.data}" if input.data else "",
        options=score_options,
        seed=study.seed,
        code=code("score.py"),
    message:
        "Scoring {wildcards.run} (seed {wildcards.seed}) on {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/score.py {wildcards.benchmark} --items {input.benchmark_items}'
        " --answers {input.responses} {params.data} {params.options} --seed {params.seed}"
        " --output {output.metrics} --verdicts {output.verdicts} 2>&1 | tee -i {log}"
