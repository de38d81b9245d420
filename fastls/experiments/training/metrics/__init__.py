"""The metrics of a data set: functions of a model and a split, one file per kind of task."""
