# One file, two images:
#   docker build -t cmprompt .                                   torch as the index has it (CUDA wheels; they run on the CPU too)
#   docker build -t cmprompt:cpu --build-arg TORCH_INDEX=URL .   torch from another index, such as PyTorch's own CPU wheels
# Run:
#   docker run --rm -v "$PWD:/data" -v cmprompt-cache:/cache cmprompt classify /data/photos --labels cat,dog
#   docker run --rm --gpus all -v "$PWD:/data" -v cmprompt-cache:/cache cmprompt classify /data/photos --labels cat,dog
FROM python:3.12-slim AS build
ARG TORCH_INDEX=""
RUN python -m venv /opt/cmprompt
ENV PATH=/opt/cmprompt/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch first: it is the largest layer and changes least
RUN if [ -n "$TORCH_INDEX" ]; then pip install torch torchvision --index-url "$TORCH_INDEX"; else pip install torch torchvision; fi
COPY pyproject.toml README.md LICENSE /src/
COPY cmprompt /src/cmprompt
COPY prompts /src/prompts
RUN pip install /src

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 cmprompt && install -d -o cmprompt -g cmprompt /cache /data
COPY --from=build /opt/cmprompt /opt/cmprompt
ENV PATH=/opt/cmprompt/bin:$PATH \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache
USER cmprompt
WORKDIR /data
VOLUME /cache
ENTRYPOINT ["cmprompt"]
CMD ["--help"]
