"""Networks: backbones, projection heads, the momentum teacher, and the collectives that join workers."""
