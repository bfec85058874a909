"""Detectors of others, run as they are: Hugging Face folders and ONNX files."""
