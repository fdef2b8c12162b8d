# The server on CPUs. Reviewed and parsed by tests; it has not been built where this project is developed.
#   docker build -t lithophone . && docker run --rm -p 127.0.0.1:8000:8000 -e LITHOPHONE_ALLOW_ANONYMOUS=true lithophone

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lithophone
ENV PATH=/opt/lithophone/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
# torch by itself and first, without the libraries of CUDA; for a GPU leave --index-url out.
RUN pip install --index-url https://download.pytorch.org/whl/cpu -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY recipes recipes
COPY src src
RUN pip install -c constraints.txt '.[serve,ja]'

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin lithophone \
    && install -d -o lithophone -g lithophone /models
COPY --from=build /opt/lithophone /opt/lithophone
ENV PATH=/opt/lithophone/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/models \
    LITHOPHONE_HOST=0.0.0.0 \
    LITHOPHONE_PORT=8000
USER 10001
# Downloaded models; nothing else is written.
VOLUME /models
EXPOSE 8000 10300
# Ready once the model is loaded; a model of some gigabytes takes minutes.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['LITHOPHONE_PORT'] + '/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["lithophone", "serve"]
