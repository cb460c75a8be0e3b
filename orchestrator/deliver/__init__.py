"""What becomes of an ensemble: one ONNX graph in a checked bundle, a registered MLflow model, predictions and a server."""
