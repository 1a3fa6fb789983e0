from snakemake.utils import min_version

min_version("9.27")


# A study given with --configfile stands alone; without one, the demo study runs.
if "models" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


pathvars:
    results=study.results,


report: "workflow/report/study.rst"


include: "workflow/rules/data.smk"
include: "workflow/rules/sampling.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        study_outputs(),
    localrule: True


ask_site(workflow.rules)
