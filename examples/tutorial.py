"""The script of every SAM tutorial, with nothing but its import line changed: one click, several clicks, a figure each.

    python examples/tutorial.py [--model-type nano] [--checkpoint FILE] [--image FILE] [--out DIR]

With `--model-type vit_b --checkpoint sam_vit_b_01ec64.pth` it runs on Meta's own file. Needs the extra `plot`.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

mpl.use("Agg")  # draw to files
import matplotlib.pyplot as plt

# was: from segment_anything import SamPredictor, sam_model_registry
from pointcut.compat.segment_anything import SamPredictor, sam_model_registry


def show_mask(mask, ax, random_color=False):
    color = np.concatenate([np.random.random(3), np.array([0.6])]) if random_color else np.array([30 / 255, 144 / 255, 1, 0.6])
    h, w = mask.shape[-2:]
    ax.imshow(mask.reshape(h, w, 1) * color.reshape(1, 1, -1))


def show_points(coords, labels, ax):
    for label, color in ((1, "green"), (0, "red")):
        points = coords[labels == label]
        ax.scatter(points[:, 0], points[:, 1], color=color, marker="*", s=375, edgecolor="white", linewidth=1.25)


def main(model_type, checkpoint_path, image, out, device="cpu"):
    img_cv2 = np.array(Image.open(image).convert("RGB"))
    height, width = img_cv2.shape[:2]
    predictor = SamPredictor(sam_model_registry[model_type](checkpoint_path).to(device))
    predictor.set_image(img_cv2)

    clicks = np.array([[width // 2, height // 2], [width * 9 // 20, height * 2 // 3], [20, 20], [width - 20, 20]])
    labels = np.array([1, 1, 0, 0])
    out.mkdir(parents=True, exist_ok=True)
    for count in (1, 2, 4):  # again and again on the encoded image
        masks, scores, logits = predictor.predict(
            point_coords=clicks[:count], point_labels=labels[:count], multimask_output=True
        )
        best = int(np.argmax(scores))
        best_mask = masks[best]
        plt.figure(figsize=(8, 8 * height / width))
        plt.imshow(img_cv2)
        show_mask(best_mask, plt.gca(), random_color=True)
        show_points(clicks[:count], labels[:count], plt.gca())
        plt.title(f"{count} clicks, score {scores[best]:.3f}")
        plt.axis("off")
        plt.savefig(out / f"tutorial_{count}.png", bbox_inches="tight")
        plt.close()
        print(f"{count} clicks: masks {masks.shape} {masks.dtype}, scores {scores.round(3)}, logits {logits.shape}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-type", default="nano")
    parser.add_argument("--checkpoint")
    parser.add_argument("--image", type=Path, default=Path(__file__).parent / "photos" / "coffee.jpg")
    parser.add_argument("--out", type=Path, default=Path("out"))
    arguments = parser.parse_args()
    main(arguments.model_type, arguments.checkpoint, arguments.image, arguments.out)
