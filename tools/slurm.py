"""A Dask cluster on SLURM for units: a scheduler here, workers as jobs; ends with Ctrl-C.

    python tools/slurm.py --jobs 16 --hours 4 --gpu
    MICROMACRO_SCHEDULER=tcp://... micromacro reproduce --profile full

Needs ``pip install "micromacro[cluster]"`` and one file system for all nodes. Each job is one
worker of one thread. Jobs that reach their time limit are replaced; the unit that they were at is
done again. Without a scheduler, job arrays do the same:
``micromacro units 08b --profile full --shard 3/16``.
"""

import argparse
import time

from dask_jobqueue import SLURMCluster


def main() -> None:
    """Start the scheduler, ask for the jobs, and wait."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=8, help="workers at once (8)")
    parser.add_argument("--hours", type=int, default=4, help="time limit of a job (4)")
    parser.add_argument("--memory", default="8GB", help="of a job (8GB)")
    parser.add_argument("--partition", help="queue of the jobs")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each job")
    options = parser.parse_args()
    cluster = SLURMCluster(
        cores=1,
        processes=1,
        memory=options.memory,
        queue=options.partition,
        walltime=f"{options.hours}:00:00",
        job_extra_directives=["--gres=gpu:1"] if options.gpu else [],
        worker_extra_args=["--resources", "GPU=1"] if options.gpu else [],
        job_script_prologue=["export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1"],
        scheduler_options={"dashboard_address": None},
    )
    # `adapt`, unlike `scale`, replaces jobs that have reached their limit.
    cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)
    print(cluster.job_script(), f"MICROMACRO_SCHEDULER={cluster.scheduler_address}", sep="\n")
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
