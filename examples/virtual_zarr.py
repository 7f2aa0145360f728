"""Read any file with zarr-python, all levels of its pyramid: python virtual_zarr.py [SOURCE]."""

import sys

from bfbridge import BioReader

DEMO = "demo&sizeX=3000&sizeY=2000&sizeZ=2&pixelType=uint16.fake"


def show(source: str) -> None:
    with BioReader(source) as br:
        store = br.to_zarr(version=3, whole_file=False)
        (image,) = store.root.attrs["ome"]["multiscales"]
        for dataset in image["datasets"]:
            array = store.root[dataset["path"]]
            print(f"level {dataset['path']}: {array.shape}, chunks {array.chunks}")
        coarsest = store.root[image["datasets"][-1]["path"]]
        print(f"mean of the coarsest level: {coarsest[:].mean():.1f}")


if __name__ == "__main__":
    show(sys.argv[1] if len(sys.argv) > 1 else DEMO)
