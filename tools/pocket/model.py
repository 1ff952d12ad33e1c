"""A CLIP in plain torch whose parameters carry the names of Hugging Face's CLIPModel."""
import torch
from torch import nn
from torch.nn import functional

SHAPE = {"side": 48, "patch": 8, "context": 24, "dimensions": 128,
         "image": {"width": 128, "layers": 5, "heads": 4},
         "text": {"width": 128, "layers": 3, "heads": 4}}


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, causal):
        count, length, width = x.shape

        def split(part):
            return part.view(count, length, self.heads, width // self.heads).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)), is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).reshape(count, length, width))


class Perceptron(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = Perceptron(width)

    def forward(self, x, causal):
        x = x + self.self_attn(self.layer_norm1(x), causal)
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))

    def forward(self, x, causal=False):
        for layer in self.layers:
            x = layer(x, causal)
        return x


class ImageEmbeddings(nn.Module):
    def __init__(self, width):
        super().__init__()
        patches = (SHAPE["side"] // SHAPE["patch"]) ** 2
        self.class_embedding = nn.Parameter(torch.randn(width) * width ** -0.5)
        self.patch_embedding = nn.Conv2d(3, width, SHAPE["patch"], SHAPE["patch"], bias=False)
        self.position_embedding = nn.Embedding(patches + 1, width)


class ImageModel(nn.Module):
    def __init__(self):
        super().__init__()
        width = SHAPE["image"]["width"]
        self.embeddings = ImageEmbeddings(width)
        self.pre_layrnorm, self.post_layernorm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.encoder = Encoder(**SHAPE["image"])

    def forward(self, pixels, kept=None):
        """kept: indices (images x count) of the patches to look at; all of them without it."""
        count, size, patch = len(pixels), SHAPE["side"] // SHAPE["patch"], SHAPE["patch"]
        parts = self.embeddings
        x = pixels.view(count, 3, size, patch, size, patch).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(count, size * size, 3 * patch * patch)
        positions = parts.position_embedding.weight
        places = positions[1:].expand(count, -1, -1)
        if kept is not None:
            x = x.gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
            places = positions[1:][kept]
        x = x @ parts.patch_embedding.weight.flatten(1).T + places
        start = (parts.class_embedding + positions[0]).expand(count, 1, -1)
        x = self.encoder(self.pre_layrnorm(torch.cat([start, x], 1)))
        return self.post_layernorm(x[:, 0])


class TextEmbeddings(nn.Module):
    def __init__(self, width, vocabulary):
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(SHAPE["context"], width)


class TextModel(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        width = SHAPE["text"]["width"]
        self.embeddings = TextEmbeddings(width, vocabulary)
        self.encoder = Encoder(**SHAPE["text"])
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens, ends):
        """tokens: texts x length; ends: where in each text its end mark stands."""
        parts = self.embeddings
        x = parts.token_embedding(tokens) + parts.position_embedding.weight[:tokens.shape[1]]
        x = self.final_layer_norm(self.encoder(x, causal=True))
        return x[torch.arange(len(x)), ends]


class Clip(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.vision_model, self.text_model = ImageModel(), TextModel(vocabulary)
        self.visual_projection = nn.Linear(SHAPE["image"]["width"], SHAPE["dimensions"], bias=False)
        self.text_projection = nn.Linear(SHAPE["text"]["width"], SHAPE["dimensions"], bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))
        for name, weight in self.named_parameters():
            if "position_embedding" in name or "token_embedding" in name:
                nn.init.normal_(weight, std=0.02)

    def images(self, pixels, kept=None):
        """Unit vectors of normalised pixels."""
        return functional.normalize(self.visual_projection(self.vision_model(pixels, kept)), dim=1)

    def texts(self, tokens, ends):
        """Unit vectors of token rows."""
        return functional.normalize(self.text_projection(self.text_model(tokens, ends)), dim=1)
