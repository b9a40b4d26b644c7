"""Copies of a sweep's trials in TensorBoard, MLflow and Weights & Biases.

Trackers read the records on the storage, and nothing from the processes that train. So a crash
loses no trial, a resumed sweep sends no trial twice, and a tracker cannot change a result.
"""
