"""Networks and what they need: custom CNN, pretrained backbones, heads, predictions and features."""
