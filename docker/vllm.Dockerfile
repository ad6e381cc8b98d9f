# The orchestrator beside vLLM's own image, in an interpreter of its own: neither sees the other's packages.
#   docker build -f docker/vllm.Dockerfile -t orchestrator:vllm .
#   docker run --gpus all --ipc host -v $PWD:/work -v $HOME/.cache/huggingface:/hub -e HF_HOME=/hub \
#     orchestrator:vllm -m model=r1-7b opt=none,fp8 engine=vllm
FROM vllm/vllm-openai:v0.25.1
ENV ORCHESTRATOR_HOME=/opt/orchestrator PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install -r requirements/orchestrator.txt hatchling==1.33.0
COPY conf ./conf
COPY hydra_plugins ./hydra_plugins
COPY orchestrator ./orchestrator
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation . \
    && mkdir -p /opt/orchestrator/engines/vllm-gpu/bin \
    && ln -s "$(command -v python3)" /opt/orchestrator/engines/vllm-gpu/bin/python \
    && echo '{"name": "vllm-gpu", "made_by": "the image"}' > /opt/orchestrator/engines/vllm-gpu/installed.json

WORKDIR /work
ENTRYPOINT ["/opt/venv/bin/python", "-m", "orchestrator.sweep"]
