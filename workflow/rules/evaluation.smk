"""Answers to the benchmarks, and their scores."""


rule respond:
    input:
        model=run_model,
        adapter=run_adapter,
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
    output:
        "<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
    log:
        "<results>/logs/respond/{run}-seed{seed}-{benchmark}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=6000,
        runtime=120,
        gpus_per_node=1,
    params:
        adapter=lambda wildcards, input: (
            f"--adapter {input.adapter}" if input.adapter else ""
        ),
        dtype=study.training.dtype,
        max_new_tokens=lambda wildcards: study.benchmarks[
            wildcards.benchmark
        ].max_new_tokens,
        code=code("respond.py"),
    message:
        "Answers of {wildcards.run} (seed {wildcards.seed}) to {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/respond.py --model {input.model} {params.adapter}'
        " --dtype {params.dtype} --items {input.benchmark_items} --max-new-tokens {params.max_new_tokens}"
        " --output {output} 2>&1 | tee -i {log}"


rule score:
    input:
        benchmark_items="<results>/benchmarks/{benchmark}/items.parquet",
        responses="<results>/responses/{run}/seed{seed}/{benchmark}.jsonl",
    output:
        metrics="<results>/scores/{run}/seed{seed}/{benchmark}.json",
        verdicts="<results>/scores/{run}/seed{seed}/{benchmark}.parquet",
    log:
        "<results>/logs/score/{run}-seed{seed}-{benchmark}.log",
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        seed=study.seed,
        code=code("score.py"),
    message:
        "Scoring {wildcards.run} (seed {wildcards.seed}) on {wildcards.benchmark}"
    shell:
        'python "$MMPREF"/scripts/score.py --benchmark {wildcards.benchmark} --items {input.benchmark_items}'
        " --responses {input.responses} --seed {params.seed} --metrics {output.metrics}"
        " --verdicts {output.verdicts} 2>&1 | tee -i {log}"
