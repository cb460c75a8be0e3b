"""What the stages leave each other: records, file names and predictions. Siblings meet here and nowhere else."""
