"""One trial per Ray task, on a folder that all nodes share: python examples/ray_tasks.py runs/table2"""

import sys
from pathlib import Path

import ray

from lerac_experiments import Manifest, run_trial

folder = Path(sys.argv[1]).resolve()
ray.init()
task = ray.remote(num_gpus=ray.cluster_resources().get("GPU", 0) and 1)(run_trial)  # a GPU each, where there are any
print(ray.get([task.remote(folder, trial.id) for trial in Manifest.read(folder)]))
