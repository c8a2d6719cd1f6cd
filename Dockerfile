# MemMC-MAE, with the PyTorch that pip finds: docker build -t anomalib-memmc . && docker run --rm -v "$PWD:/work" anomalib-memmc presets
FROM python:3.12-slim
# OpenCV, which anomalib imports, needs these two
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip install --no-cache-dir "/source[export,dicom]" && rm -rf /source
WORKDIR /work
ENTRYPOINT ["anomalib-memmc"]
CMD ["--help"]
