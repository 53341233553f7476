import { describe, expect, it } from "vitest"
import { axisSize, BadMesh, coordinate, meshDevices, meshText, parseMesh } from "../../src/device/mesh.ts"

describe("a mesh from the command line", () => {
  it("has the axes that are named; all devices are data where none is; one device is none", () => {
    const mesh = parseMesh(4, "data=2, model=2")!
    expect([meshText(mesh), meshDevices(mesh), axisSize(mesh, "model"), axisSize(mesh, "fsdp")]).toEqual([
      "data=2,model=2",
      4,
      2,
      1
    ])
    expect(meshText(parseMesh(undefined, "fsdp=3")!)).toBe("fsdp=3")
    expect(meshText(parseMesh(4, undefined)!)).toBe("data=4")
    expect([parseMesh(1, undefined), parseMesh(undefined, undefined), parseMesh(1, "data=1")]).toEqual([
      undefined,
      undefined,
      undefined
    ])
  })

  it("counts devices like digits, the last axis fastest", () => {
    const mesh = parseMesh(undefined, "data=2,fsdp=3,model=2")!
    // device 9 of 2 x 3 x 2: 9 = 1 * 6 + 1 * 2 + 1
    expect((["data", "fsdp", "model"] as const).map((axis) => coordinate(mesh, axis, 9))).toEqual([1, 1, 1])
    expect(coordinate(parseMesh(2, undefined)!, "model", 1)).toBe(0)
  })

  it.each([
    [3, "data=2,model=2", /has 2 x 2 = 4 devices, and --devices says 3/],
    [2, "data=1", /has 1 device, and --devices says 2/],
    [4, "data=2,tensor=2", /no axis "tensor"; the axes are data, fsdp, model/],
    [4, "data=2,data=2", /data is named twice/],
    [4, "data", /axis data needs a number of devices, as in data=2, not "data"/],
    [4, "data=0,model=4", /not "data=0"/],
    [4, "data=1.5", /not "data=1.5"/],
    [4, "", /no axis ""/],
    [0, undefined, /--devices 0: .*at least one/]
  ])("refuses --devices %s --mesh %s", (devices, mesh, message) => {
    expect(() => parseMesh(devices, mesh)).toThrow(BadMesh)
    expect(() => parseMesh(devices, mesh)).toThrow(message)
  })
})
