from lib.training.session import Session as Session
from lib.training.session import TrainedRun as TrainedRun
from lib.training.session import finished_runs as finished_runs
from lib.training.session import train as train
