"""What a data set is judged by: functions of a model and a split, one file a kind of task."""
