"""Networks: the factory, their export to ONNX, and the repair that lets torchvision import."""
