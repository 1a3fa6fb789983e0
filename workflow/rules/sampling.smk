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


rule sample_shard:
    input:
        pairs=dataset_pairs,
        model=lambda wildcards: model_of(sampling_of(wildcards).model),
        encoder=lambda wildcards: study.preferences[
            wildcards.preferences
        ].encoder_folder
        or [],
    output:
        "<results>/preferences/{preferences}/shards/{shard}.parquet",
    log:
        "<results>/logs/sample_shard/{preferences}/{shard}.log",
    benchmark:
        "<results>/timings/sample_shard/{preferences}/{shard}.tsv"
    wildcard_constraints:
        preferences=names(SAMPLED),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=lambda wildcards: memory_of(sampling_of(wildcards).model),
        runtime=lambda wildcards: minutes_of("sampling", sampling_of(wildcards).model),
        gpus_per_node=lambda wildcards: gpus_of(sampling_of(wildcards).model),
        gres=lambda wildcards: gres(gpus_of(sampling_of(wildcards).model)),
    params:
        arguments=lambda wildcards: flags(
            settings=study.preferences[wildcards.preferences],
            seed=study.seed,
            dtype=study.training.dtype,
            shard=wildcards.shard,
        ),
        files=lambda wildcards, input: flags(encoder=input.encoder),
        code=lambda wildcards: code(
            "sample_shard.py",
            sampler_code(wildcards),
            model=sampling_of(wildcards).model,
        ),
    message:
        "Making rejected answers: {wildcards.preferences}, shard {wildcards.shard}"
    shell:
        'python "$MMPREF"/scripts/sample_shard.py {params.arguments} {params.files}'
        " --model {input.model} --pairs {input.pairs} --output {output} 2>&1 | tee -i {log}"


rule sample_merge:
    input:
        shards,
    output:
        "<results>/preferences/{preferences}/pairs.parquet",
    log:
        "<results>/logs/sample_merge/{preferences}.log",
    wildcard_constraints:
        preferences=names(SAMPLED),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=code("sample_merge.py"),
    message:
        "Putting the shards of {wildcards.preferences} together"
    shell:
        'python "$MMPREF"/scripts/sample_merge.py --shards {input} --output {output}'
        " 2>&1 | tee -i {log}"


# Apart from sample_merge: an edit of the statistics shall not write the pairs anew, and so train.
rule sample_statistics:
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
        "<results>/logs/sample_statistics/{preferences}.log",
    wildcard_constraints:
        preferences=names(SAMPLED),
    conda:
        "../../envs/training.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("sample_statistics.py"),
    message:
        "Counting what was sampled for {wildcards.preferences}"
    shell:
        'python "$MMPREF"/scripts/sample_statistics.py --shards {input} --output {output}'
        " 2>&1 | tee -i {log}"
