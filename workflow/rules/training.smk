"""Reference log-probabilities, once for all runs on the same pairs, and training."""


rule reference_answers:
    input:
        model=lambda wildcards: model_of(wildcards.model),
        pairs="<results>/preferences/{preferences}/pairs.parquet",
    output:
        "<results>/reference/{model}/{preferences}/answers.parquet",
    log:
        "<results>/logs/reference_answers/{model}-{preferences}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=6000,
        runtime=240,
        gpus_per_node=1,
    params:
        dtype=study.training.dtype,
        code=code("reference.py"),
    message:
        "Reference log-probabilities of the answers: {wildcards.preferences}"
    shell:
        'python "$MMPREF"/scripts/reference.py --model {input.model} --pairs {input.pairs}'
        " --dtype {params.dtype} --output {output} 2>&1 | tee -i {log}"


rule reference_degraded:
    input:
        model=lambda wildcards: model_of(wildcards.model),
        pairs="<results>/preferences/{preferences}/pairs.parquet",
    output:
        "<results>/reference/{model}/{preferences}/degraded-{degraded}.parquet",
    log:
        "<results>/logs/reference_degraded/{model}-{preferences}-{degraded}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=6000,
        runtime=480,
        gpus_per_node=1,
    params:
        dtype=study.training.dtype,
        epochs=epochs_of,
        seed=study.seed,
        code=code("reference.py"),
    message:
        "Reference log-probabilities under degraded images: {wildcards.preferences}"
    shell:
        'python "$MMPREF"/scripts/reference.py --model {input.model} --pairs {input.pairs}'
        " --dtype {params.dtype} --degraded-image {wildcards.degraded} --seed {params.seed}"
        " --epochs {params.epochs} --output {output} 2>&1 | tee -i {log}"


rule train:
    input:
        unpack(run_reference),
        model=run_model,
        pairs=run_pairs,
    output:
        adapter=directory("<results>/runs/{run}/seed{seed}/adapter"),
        metrics="<results>/runs/{run}/seed{seed}/metrics.jsonl",
        settings="<results>/runs/{run}/seed{seed}/run.json",
    log:
        "<results>/logs/train/{run}-seed{seed}.log",
    conda:
        "../../envs/training.yaml"
    threads: lambda wildcards: study.runs[wildcards.run].training.processes
    resources:
        mem_mb=6000,
        runtime=720,
        nodes=lambda wildcards: study.runs[wildcards.run].training.nodes,
        gpus_per_node=lambda wildcards: study.runs[wildcards.run].training.processes,
    params:
        run=lambda wildcards: study.runs[wildcards.run].model_dump_json(
            exclude={"seeds"}
        ),
        deepspeed=deepspeed_of,
        deepspeed_content=lambda wildcards: content(deepspeed_of(wildcards)),
        degraded=lambda wildcards, input: (
            f"--degraded {input.degraded}" if "degraded" in input.keys() else ""
        ),
        code=lambda wildcards: code("train.py", study.runs[wildcards.run].objective),
    message:
        "Training {wildcards.run}, seed {wildcards.seed}"
    shell:
        "python -m mmpref.training.launch --nodes {resources.nodes}"
        ' --processes {resources.gpus_per_node} -- "$MMPREF"/scripts/train.py'
        " --name {wildcards.run} --run {params.run:q} --seed {wildcards.seed}"
        " --model {input.model} --pairs {input.pairs} --answers {input.answers}"
        ' {params.degraded} --deepspeed "$MMPREF"/{params.deepspeed} --output $(dirname {output.adapter})'
        " 2>&1 | tee -i {log}"
