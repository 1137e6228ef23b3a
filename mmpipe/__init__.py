"""Raw images, text and recorded sound to a trained, evaluated, versioned multimodal model."""

__version__ = "0.1.0"
