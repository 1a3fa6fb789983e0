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
        mem_mb=lambda wildcards: memory_of(study.runs[wildcards.run].model),
        runtime=lambda wildcards: minutes_of("answers", study.runs[wildcards.run].model),
        gpus_per_node=lambda wildcards: gpus_of(study.runs[wildcards.run].model),
        gres=lambda wildcards: gres(gpus_of(study.runs[wildcards.run].model)),
    params:
        arguments=lambda wildcards: flags(
            settings=study.responses,
            dtype=study.training.dtype,
            max_new_tokens=study.benchmarks[wildcards.benchmark].max_new_tokens,
            shard=wildcards.shard,
        ),
        files=lambda wildcards, input: flags(adapter=input.adapter),
        code=lambda wildcards: code(
            "respond_shard.py", model=study.runs[wildcards.run].model
        ),
    message:
        "Answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/respond_shard.py {params.arguments} {params.files}'
        " --model {input.model} --items {input.benchmark_items} --output {output}"
        " 2>&1 | tee -i {log}"


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
        arguments=judge_arguments,
        code=lambda wildcards: code(
            "judge.py", *of_kinds("score", study.benchmarks[wildcards.benchmark])
        ),
    message:
        "Judging the answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/judge.py {params.arguments} --data {input.data}'
        " --items {input.benchmark_items} --responses {input.responses} --output {output}"
        " 2>&1 | tee -i {log}"


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
        arguments=judge_arguments,
        code=lambda wildcards: code(
            "judge.py", *of_kinds("score", study.benchmarks[wildcards.benchmark])
        ),
    message:
        "What judging {wildcards.run} (seed {wildcards.seed}) on {wildcards.benchmark} will take"
    shell:
        'python "$MMPREF"/scripts/judge.py --dry-run {params.arguments} --data {input.data}'
        " --items {input.benchmark_items} --responses {input.responses} --output {output}"
        " 2>&1 | tee -i {log}"


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
        arguments=lambda wildcards: flags(**score_options(wildcards), seed=study.seed),
        files=lambda wildcards, input: flags(
            data=input.data, judgements=input.judgements
        ),
        code=lambda wildcards: code(
            "score.py", *of_kinds("score", study.benchmarks[wildcards.benchmark])
        ),
    message:
        "Scoring {wildcards.run} (seed {wildcards.seed}) on {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/score.py {wildcards.benchmark} {params.arguments}'
        " {params.files} --items {input.benchmark_items} --answers {input.responses}"
        " --output {output.metrics} --verdicts {output.verdicts} 2>&1 | tee -i {log}"
