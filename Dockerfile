# syntax=docker/dockerfile:1
# The command line. From a checkout: docker build -t bfbridge .
# docker run --rm --network none -v "$PWD:/data" --user "$(id -u):$(id -g)" bfbridge convert in.czi out.ome.zarr
FROM python:3.13-slim AS wheels
WORKDIR /source
COPY . .
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels ./jars ".[all]"

FROM python:3.13-slim
# The wheels were made above.
# hadolint ignore=DL3013
RUN --mount=from=wheels,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "bfbridge[all]"
# Any user works: what is kept between runs lies in HOME.
ENV HOME=/tmp
RUN useradd --uid 1000 --no-create-home --home-dir /tmp bfbridge
USER 1000
WORKDIR /data
ENTRYPOINT ["bfbridge"]
CMD ["--help"]
