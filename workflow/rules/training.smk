"""Reference log-probabilities, once for all runs on the same pairs, and training."""


rule reference_shard:
    input:
        model=lambda wildcards: model_of(wildcards.model),
        pairs="<results>/preferences/{preferences}/pairs.parquet",
    output:
        "<results>/reference/{model}/{preferences}/shards/{image}/{shard}.parquet",
    log:
        "<results>/logs/reference_shard/{model}-{preferences}-{image}/{shard}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: memory_of(wildcards.model),
        runtime=reference_minutes,
        gpus_per_node=lambda wildcards: gpus_of(wildcards.model),
        gres=lambda wildcards: gres(gpus_of(wildcards.model)),
    params:
        arguments=lambda wildcards: flags(
            dtype=study.training.dtype,
            batch_size=study.reference.batch_size,
            stored=reference_of(wildcards),
            shard=int(wildcards.shard),
            shards=study.reference.shards,
        ),
        code=lambda wildcards: code("reference_shard.py", model=wildcards.model),
    message:
        "Reference log-probabilities of {wildcards.preferences}, image {wildcards.image}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/reference_shard.py --model {input.model} --pairs {input.pairs}'
        " {params.arguments} --output {output} 2>&1 | tee -i {log}"


rule reference:
    input:
        lambda wildcards: [
            f"<results>/reference/{wildcards.model}/{wildcards.preferences}/shards/{wildcards.image}/{shard}.parquet"
            for shard in range(study.reference.shards)
        ],
    output:
        "<results>/reference/{model}/{preferences}/{image}.parquet",
    log:
        "<results>/logs/reference/{model}-{preferences}-{image}.log",
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("reference.py"),
    message:
        "Putting the reference of {wildcards.preferences}, image {wildcards.image}, together"
    shell:
        'python "$MMPREF"/scripts/reference.py --shards {input} --output {output}'
        " 2>&1 | tee -i {log}"


rule train:
    input:
        model=run_model,
        pairs=run_pairs,
        reference=run_reference,
    output:
        adapter=directory("<results>/runs/{run}/seed{seed}/adapter"),
        metrics="<results>/runs/{run}/seed{seed}/metrics.jsonl",
        settings="<results>/runs/{run}/seed{seed}/run.json",
        kept_out="<results>/runs/{run}/seed{seed}/kept_out.jsonl",
    log:
        "<results>/logs/train/{run}-seed{seed}.log",
    conda:
        "../../envs/training.yaml"
    threads: lambda wildcards: study.runs[wildcards.run].training.processes
    resources:
        mem_mb=training_memory,
        runtime=training_minutes,
        nodes=lambda wildcards: study.runs[wildcards.run].training.nodes,
        gpus_per_node=lambda wildcards: study.runs[wildcards.run].training.processes,
        gres=lambda wildcards: gres(study.runs[wildcards.run].training.processes),
        # With `mpi`, the plugin starts no step of one machine around the rule's own srun.
        mpi=lambda wildcards: several_nodes(wildcards, "srun"),
        tasks=lambda wildcards: several_nodes(
            wildcards, study.runs[wildcards.run].training.nodes
        ),
        tasks_per_gpu=lambda wildcards: several_nodes(wildcards, 0),
    params:
        arguments=lambda wildcards: flags(
            name=wildcards.run,
            run=study.runs[wildcards.run].for_one_seed,
            seed=int(wildcards.seed),
        ),
        deepspeed=deepspeed_of,
        deepspeed_content=lambda wildcards: content(deepspeed_of(wildcards)),
        code=lambda wildcards: code(
            "train.py",
            study.runs[wildcards.run].objective,
            model=study.runs[wildcards.run].model,
        ),
    message:
        "Training {wildcards.run}, seed {wildcards.seed}"
    shell:
        "python -m mmpref.training.launch --nodes {resources.nodes}"
        ' --processes {resources.gpus_per_node} -- "$MMPREF"/scripts/train.py {params.arguments}'
        " --model {input.model} --pairs {input.pairs} --reference {input.reference}"
        ' --deepspeed "$MMPREF"/{params.deepspeed} --output $(dirname {output.adapter})'
        " 2>&1 | tee -i {log}"


# Not made unless it is asked for: answers come from model and adapter.
rule merged_model:
    input:
        model=run_model,
        adapter="<results>/runs/{run}/seed{seed}/adapter",
        pairs=run_pairs,
    output:
        model=directory("<results>/runs/{run}/seed{seed}/merged"),
        comparison="<results>/runs/{run}/seed{seed}/merged.json",
    log:
        "<results>/logs/merged_model/{run}-seed{seed}.log",
    wildcard_constraints:
        run=names(TRAINED),
    conda:
        "../../envs/training.yaml"
    resources:
        # The sum is made in float32.
        mem_mb=lambda wildcards: memory_of(
            study.runs[wildcards.run].model, dtype="float32"
        ),
        runtime=lambda wildcards: minutes_of("merging", study.runs[wildcards.run].model),
        gpus_per_node=lambda wildcards: gpus_of(study.runs[wildcards.run].model),
        gres=lambda wildcards: gres(gpus_of(study.runs[wildcards.run].model)),
    params:
        arguments=lambda wildcards: flags(
            dtype=study.runs[wildcards.run].training.dtype
        ),
        code=lambda wildcards: code(
            "merged_model.py", model=study.runs[wildcards.run].model
        ),
    message:
        "Merging the adapter of {wildcards.run}, seed {wildcards.seed}, into its model"
    shell:
        'python "$MMPREF"/scripts/merged_model.py {params.arguments} --model {input.model}'
        " --adapter {input.adapter} --pairs {input.pairs} --output {output.model}"
        " --comparison {output.comparison} 2>&1 | tee -i {log}"
