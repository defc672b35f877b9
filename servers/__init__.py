"""The model server, the inference options in front of it, and SageMaker's formats and limits."""
