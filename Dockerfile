# The whole service on one machine, on the CPU: API, worker and storage, without downloads.
#
#   docker build -t voice-cloning .
#   docker run -p 8000:8000 -v voices:/data voice-cloning        the first start prints a key
#
# With the cloned voice, on an NVIDIA GPU:
#
#   docker build -f Dockerfile.gpu --target single -t voice-cloning:gpu .
# Not from Docker Hub, which limits anonymous downloads.
ARG PYTHON_IMAGE=public.ecr.aws/docker/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS installed
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1
RUN python -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /app
COPY requirements/ requirements/
RUN "$(readlink -f /opt/venv/bin/python)" -m pip --python /opt/venv/bin/python install --no-deps --require-hashes \
        --requirement requirements/local.lock --requirement requirements/models.lock
COPY localstack/ localstack/
COPY pipeline/ pipeline/
COPY functions/ functions/
COPY gpu_runner/ gpu_runner/
# What the embedded storage runs in.
RUN cd localstack && python -m environments store
RUN python requirements/sbom.py requirements/local.lock requirements/models.lock \
        localstack/environments/store.lock > sbom.json
# Modules compiled here need not be compiled at each start: the service can't write its own folders.
RUN python -m compileall -q pipeline functions gpu_runner localstack \
    && python -c "import functions.local.server, gpu_runner.__main__, hibari.dsp, aiobotocore.session" \
    && .venvs/store/bin/python -c "import ministack.app"

# Without what nothing uses at run time: symbols, tests, models of other tasks, descriptions of other AWS services, the
# copy of ONNX Runtime for C programs, package managers and documentation.
FROM installed AS reduced
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
WORKDIR /opt/packages
RUN ln -s /opt/venv/lib/python3.*/site-packages venv && ln -s /app/.venvs/store/lib/python3.*/site-packages store \
    && find venv/av -name '*.so' -exec strip --strip-unneeded {} + \
    && find venv/ store/ -type d -name tests -prune -exec rm -r {} + \
    && find venv/ store/ -name '*.pyi' -delete \
    && find venv/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sqs ! -name sts ! -name apigatewaymanagementapi -exec rm -r {} + \
    && find venv/silero_vad/data -type f -size +1M ! -name silero_vad.onnx ! -name silero_vad_16k_sequence.onnx -delete \
    && rm -r venv/speechmos/aecmos_models venv/speechmos/plcmos_models venv/onnxruntime/capi/libonnxruntime.so.* \
        venv/onnxruntime/transformers venv/numpy/f2py venv/numpy/_core/include venv/boto3/data \
        store/botocore/data \
    && rm -rf store/pip store/setuptools store/pkg_resources store/distutils-precedence.pth

FROM ${PYTHON_IMAGE} AS complete
RUN useradd --uid 10001 --user-group --create-home service \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=reduced /opt/venv /opt/venv
COPY --from=reduced /app /app
RUN find /usr/lib /usr/local/lib -path '*/python3*' -type d \( -name pip -o -name setuptools -o -name ensurepip \
        -o -name test -o -name idlelib -o -name lib2to3 -o -name tkinter -o -name pydoc_data \) -prune -exec rm -r {} + \
    && rm -rf /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /usr/share/perl* /usr/lib/*/perl* \
        /usr/lib/*/gconv /usr/bin/perl* /var/cache /var/lib/apt /var/log

# One layer, in which what is removed takes no space.
FROM scratch AS single
COPY --from=complete / /
LABEL org.opencontainers.image.title="Voice cloning service" \
    org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
# Beyond loopback every caller needs a key.  What is saved is kept in the volume.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    TTS_BACKEND=hibari \
    HOST=0.0.0.0 \
    DATA_DIR=/data \
    FIRST_KEY_OWNER=me
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health\", timeout=4)"]
ENTRYPOINT ["python", "localstack/supervisor.py"]
