cwlVersion: v1.2
class: CommandLineTool
label: Convert images to OME-TIFF or OME-Zarr
baseCommand: [python, -m, bfbridge.wipp]
hints:
  DockerRequirement:
    dockerPull: bfbridge/wipp-converter:0.1.0
requirements:
  InitialWorkDirRequirement:
    listing:
      - entry: $(inputs.outDir)
        writable: true
inputs:
  inpDir:
    type: Directory
    inputBinding:
      prefix: --inpDir
  filePattern:
    type: string
    inputBinding:
      prefix: --filePattern
  fileExtension:
    type: string?
    inputBinding:
      prefix: --fileExtension
  preview:
    type: boolean?
    inputBinding:
      prefix: --preview
  outDir:
    type: Directory
    inputBinding:
      prefix: --outDir
outputs:
  outDir:
    type: Directory
    outputBinding:
      glob: $(inputs.outDir.basename)
