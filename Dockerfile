# docker build -t darkroom .   ·   GPU: docker build --build-arg REQUIREMENTS=requirements-gpu.txt -t darkroom-gpu .
# docker run --rm -p 8888:8888 -v "$PWD/work:/project" darkroom          (for the GPU image: --gpus all)
FROM python:3.12-slim
# The lock file, with hashes; the lists for GPUs have no lock.
ARG REQUIREMENTS=requirements.lock
WORKDIR /opt/darkroom
COPY . .
RUN grep -v '^-e' "$REQUIREMENTS" > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt \
    && pip install --no-cache-dir --no-deps . && rm -rf /opt/darkroom
WORKDIR /project
EXPOSE 8888
CMD ["sh", "-c", "test -f darkroom.toml || darkroom init .; exec darkroom lab --ip 0.0.0.0 --allow-root"]
