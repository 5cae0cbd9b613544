from lib.evaluation.comparison import compare as compare
