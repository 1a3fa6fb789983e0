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
        dtype=lambda wildcards: dtype_of(wildcards),
        code=code("reference.py"),
    message:
        "Reference log-probabilities of the answers: {wildcards.preferences}"
    shell:
        "python $MMPREF/scripts/reference.py answers --model {input.model} --pairs {input.pairs}"
        " --dtype {params.dtype} --output {output} 2>&1 | tee -i {log}"
