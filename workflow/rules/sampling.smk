"""Preference pairs: a dataset's own, or with rejected answers that a model makes."""


rule dataset_preferences:
    input:
        dataset_pairs,
    output:
        "<results>/preferences/{preferences}/pairs.parquet",
    log:
        "<results>/logs/dataset_preferences/{preferences}.log",
    wildcard_constraints:
        preferences=names(set(study.preferences) - set(SAMPLED)),
    localrule: True
    conda:
        "../../envs/report.yaml"
    message:
        "Taking the pairs of {wildcards.preferences} as they are"
    shell:
        "cp -v {input} {output} > {log} 2>&1"


rule bdhs_shard:
    input:
        pairs=dataset_pairs,
        model=lambda wildcards: model_of(
            study.preferences[wildcards.preferences].bdhs.model
        ),
        encoder=lambda wildcards: study.preferences[
            wildcards.preferences
        ].bdhs.encoder_folder
        or [],
    output:
        "<results>/preferences/{preferences}/shards/{shard}.parquet",
    log:
        "<results>/logs/bdhs_shard/{preferences}/{shard}.log",
    benchmark:
        "<results>/timings/bdhs_shard/{preferences}/{shard}.tsv"
    wildcard_constraints:
        preferences=names(name for name, part in study.preferences.items() if part.bdhs),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: memory_of(sampling_model(wildcards)),
        runtime=lambda wildcards: minutes_of("sampling", sampling_model(wildcards)),
        gpus_per_node=lambda wildcards: gpus_of(sampling_model(wildcards)),
        gres=lambda wildcards: gres(gpus_of(sampling_model(wildcards))),
    params:
        arguments=lambda wildcards: flags(
            settings=study.preferences[wildcards.preferences].bdhs,
            seed=study.seed,
            dtype=study.training.dtype,
            shard=wildcards.shard,
        ),
        files=lambda wildcards, input: flags(encoder=input.encoder),
        code=lambda wildcards: code(
            "bdhs_shard.py",
            model=study.preferences[wildcards.preferences].bdhs.model,
        ),
    message:
        "Sampling rejected answers: {wildcards.preferences}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/bdhs_shard.py {params.arguments} {params.files}'
        " --model {input.model} --pairs {input.pairs} --output {output} 2>&1 | tee -i {log}"


rule distortion_shard:
    input:
        pairs=dataset_pairs,
        model=lambda wildcards: model_of(
            study.preferences[wildcards.preferences].distortion.model
        ),
    output:
        "<results>/preferences/{preferences}/shards/{shard}.parquet",
    log:
        "<results>/logs/distortion_shard/{preferences}/{shard}.log",
    benchmark:
        "<results>/timings/distortion_shard/{preferences}/{shard}.tsv"
    wildcard_constraints:
        preferences=names(
            name for name, part in study.preferences.items() if part.distortion
        ),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: memory_of(sampling_model(wildcards)),
        runtime=lambda wildcards: minutes_of("sampling", sampling_model(wildcards)),
        gpus_per_node=lambda wildcards: gpus_of(sampling_model(wildcards)),
        gres=lambda wildcards: gres(gpus_of(sampling_model(wildcards))),
    params:
        arguments=lambda wildcards: flags(
            settings=study.preferences[wildcards.preferences].distortion,
            seed=study.seed,
            dtype=study.training.dtype,
            shard=wildcards.shard,
        ),
        code=lambda wildcards: code(
            "distortion_shard.py",
            model=study.preferences[wildcards.preferences].distortion.model,
        ),
    message:
        "Reading answers under a noisy image: {wildcards.preferences}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/distortion_shard.py {params.arguments}'
        " --model {input.model} --pairs {input.pairs} --output {output} 2>&1 | tee -i {log}"


rule bdhs_merge:
    input:
        shards,
    output:
        "<results>/preferences/{preferences}/pairs.parquet",
    log:
        "<results>/logs/bdhs_merge/{preferences}.log",
    wildcard_constraints:
        preferences=names(SAMPLED),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code("bdhs_merge.py"),
    message:
        "Putting the shards of {wildcards.preferences} together"
    shell:
        'python "$MMPREF"/scripts/bdhs_merge.py --shards {input} --output {output}'
        " 2>&1 | tee -i {log}"


# Apart from bdhs_merge: an edit of the statistics shall not write the pairs anew, and so train.
rule bdhs_statistics:
    input:
        shards,
    output:
        report(
            "<results>/preferences/{preferences}/statistics.json",
            caption="../report/statistics.rst",
            category="Sampling",
            labels={"preferences": "{preferences}"},
        ),
    log:
        "<results>/logs/bdhs_statistics/{preferences}.log",
    wildcard_constraints:
        preferences=names(SAMPLED),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("bdhs_statistics.py"),
    message:
        "Counting what was sampled for {wildcards.preferences}"
    shell:
        'python "$MMPREF"/scripts/bdhs_statistics.py --shards {input} --output {output}'
        " 2>&1 | tee -i {log}"
