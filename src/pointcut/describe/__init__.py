"""A segment to words: cut out, shown to a vision-language model, and what that says, as data.

    with Describer(Endpoint("http://127.0.0.1:11434/v1", "qwen3-vl"), Look(background="dim")) as describer:
        for description in describer.each(cut):
            print(description.text or description.error)

The model stands behind any endpoint that speaks OpenAI's chat completions: Ollama, vLLM, llama.cpp, `transformers serve`, a
cloud. Nothing but the close-up, as a `data:` address within the request, and the question leave the process.
"""

from .describer import KEY, Describer, Describing, Description
from .endpoint import LOCAL, Endpoint
from .look import ASK, Look

__all__ = ["ASK", "KEY", "LOCAL", "Describer", "Describing", "Description", "Endpoint", "Look"]
