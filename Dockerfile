# magic in a container, for the CPU:     docker build -t magic .
# for an NVIDIA GPU, here CUDA 12.6:     docker build -t magic --build-arg TORCH=cu126 .
# How to run it: examples/cluster.md.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

# A folder of https://download.pytorch.org/whl/: cpu (0.2 GB), or a version of CUDA (about 5 GB). Versions are chosen
# by pyproject.toml when magic itself is installed.
ARG TORCH=cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir torch torchvision --index-url "https://download.pytorch.org/whl/${TORCH}"

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY magic_cli magic_cli
RUN pip install --no-cache-dir .

# Not root. The cache is writable for any user (docker run --user); mount it to keep it.
RUN useradd --create-home --uid 1000 magic && mkdir --mode 1777 /cache
USER 1000
ENV HOME=/cache XDG_CACHE_HOME=/cache PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["magic"]
CMD ["--help"]
