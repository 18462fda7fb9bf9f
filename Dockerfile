# A server in a container:   docker build -t pointcut .
# with CUDA:                 docker build -t pointcut:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#
#   docker run --rm -p 127.0.0.1:7788:7788 -e POINTCUT_TOKEN=... --read-only --tmpfs /tmp pointcut
#
# CUDA's libraries come with PyTorch's wheels: the same image runs with `--gpus all` where the host has the driver.
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/pointcut
ENV PATH=/opt/pointcut/bin:$PATH
COPY constraints.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY examples/photos examples/photos
COPY examples/films examples/films
COPY src src
RUN pip install --no-cache-dir -c constraints.txt ".[server,export,video]"

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home pointcut
COPY --from=build /opt/pointcut /opt/pointcut
ENV PATH=/opt/pointcut/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/tmp/huggingface
USER 10001
EXPOSE 7788
HEALTHCHECK --interval=30s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7788/livez', timeout=2)"]
# It refuses to start without POINTCUT_TOKEN: whoever reaches the port reaches the server.
ENTRYPOINT ["pointcut", "serve", "--host", "0.0.0.0"]
