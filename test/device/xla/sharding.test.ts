/** The rules of what lies where, by hand: a decoder of 4 query and 2 key-value heads of 8, on meshes of 2 and 4 devices. */
import { describe, expect, it } from "vitest"
import { parseMesh } from "../../../src/device/mesh.ts"
import { bucketOf, sharedBucketOf } from "../../../src/device/xla/buckets.ts"
import {
  feedSpec,
  fitted,
  laidAs,
  placementOf,
  rowsInOrder,
  shardingText,
  shareOf,
  shareShape,
  specText,
  Unshardable
} from "../../../src/device/xla/sharding.ts"
import { input } from "../../../src/tensor/Tensor.ts"

const meshOf = (text: string) => parseMesh(undefined, text)!
const at = "model.layers.3"
const qkv = { name: `${at}.self_attn.qkv.weight`, shape: [64, 32], stacked: { rows: [32, 16, 16], unit: 8 } }
const down = { name: `${at}.mlp.down_proj.weight`, shape: [32, 96] }
const text = (mesh: string, resident: Parameters<typeof placementOf>[1]) => {
  const { compute, spec } = placementOf(meshOf(mesh), resident)
  return `${specText(spec)} computed ${specText(compute)}`
}

describe("rules", () => {
  it("data: parameters are whole; fsdp: their longest axis is cut, and whole again to compute with", () => {
    expect(text("data=4", qkv)).toBe(", computed ,")
    expect(text("fsdp=4", qkv)).toBe("fsdp, computed ,")
    expect(text("fsdp=4", down)).toBe(",fsdp computed ,")
    expect(text("fsdp=4", { ...down, shape: [32, 98] })).toBe("fsdp, computed ,")
    expect(text("fsdp=4", { name: "model.norm.weight", shape: [32] })).toBe(" computed ")
  })

  it("model: into a layer by rows, out of it by columns, the vocabulary by rows; fsdp takes what is left", () => {
    expect(text("model=2", qkv)).toBe("model, computed model,")
    expect(text("model=2", down)).toBe(",model computed ,model")
    expect(text("model=2", { name: "lm_head.weight", shape: [100, 32] })).toBe("model, computed model,")
    expect(text("model=2", { name: `${at}.self_attn.k_proj.lora_B`, shape: [16, 4] })).toBe("model, computed model,")
    expect(text("model=2", { name: `${at}.mlp.down_proj.lora_A`, shape: [4, 96] })).toBe(",model computed ,model")
    expect(text("fsdp=2,model=2", qkv)).toBe("model,fsdp computed model,")
    expect(text("fsdp=2,model=2", down)).toBe("fsdp,model computed ,model")
    expect(text("model=2", { name: "encoder.layer.0.output.dense.weight", shape: [32, 64] })).toBe(", computed ,")
  })

  it("gradients and moments lie as their parameters, caches by rows and heads", () => {
    for (const prefix of ["grad:", "m:", "v:"]) {
      const mesh = meshOf("fsdp=2,model=2")
      expect(placementOf(mesh, { ...qkv, name: prefix + qkv.name })).toEqual(placementOf(mesh, qkv))
    }
    expect(text("data=2,model=2", { name: "cache:k:0", shape: [6, 2, 40, 8] })).toBe(
      "data,model,, computed data,model,,"
    )
  })

  it("what does not come out even stays whole, and is said; heads that do not are refused with their number", () => {
    expect(placementOf(meshOf("model=3"), { name: "lm_head.weight", shape: [100, 30] })).toMatchObject({
      spec: [[], []],
      left: "lm_head.weight [100, 30] on every device: model=3 does not divide axis 0"
    })
    expect(placementOf(meshOf("fsdp=4"), { name: "a", shape: [3, 5] }).left).toMatch(/fsdp=4 divides no axis/)
    expect(() => placementOf(meshOf("model=4"), qkv)).toThrow(Unshardable)
    expect(() => placementOf(meshOf("model=4"), qkv)).toThrow(
      /model=4 does not divide the 2 key heads of model\.layers\.3.*at most model=2 here/
    )
    const fit = fitted(meshOf("data=4"), laidAs([["data"], []]), [6, 4])
    expect(specText(fit.spec)).toBe(",")
  })

  it("feeds are cut along the first dimension that counts a batch, over data and fsdp at once", () => {
    const mesh = meshOf("data=2,fsdp=2,model=2")
    const of = (...shape: ReadonlyArray<string | number>) => specText(feedSpec(mesh, input("x", "i32", shape).shape))
    expect([of("rows", "time"), of(2, "groups", "time"), of("tokens"), of("places"), of()]).toEqual([
      "data+fsdp,",
      ",data+fsdp,",
      "data+fsdp",
      "",
      ""
    ])
  })
})

describe("shares", () => {
  it("cover a tensor once along its cuts", () => {
    const mesh = meshOf("data=2,model=2")
    const spec = [["data"], [], ["model"]] as const
    expect(shareShape(mesh, spec, [4, 3, 6])).toEqual([2, 3, 3])
    expect(shareOf(mesh, spec, [4, 3, 6], 2)).toEqual([
      { start: 2, size: 2 },
      { start: 0, size: 3 },
      { start: 0, size: 3 }
    ])
    const both = [["data", "model"]] as const
    expect([0, 1, 2, 3].map((device) => shareOf(mesh, both, [8], device)[0]!.start)).toEqual([0, 2, 4, 6])
    expect(shardingText(spec)).toBe('#sdy.sharding<@mesh, [{"data"}, {}, {"model"}]>')
  })

  it("of stacked parts hold a share of each part", () => {
    // parts of 4 and 2 rows, cut in two: rows 0 1 of the first with row 0 of the second, then the rest
    expect([...rowsInOrder({ ways: 2, parts: [4, 2] })]).toEqual([0, 1, 4, 2, 3, 5])
  })

  it("of sizes: every size is in the bucket that it names, whose largest is a multiple", () => {
    for (const [name, ways] of [
      ["tokens", 4],
      ["rows", 3],
      ["groups", 8]
    ] as const) {
      expect(sharedBucketOf(name, 0, ways)).toEqual({ low: 0, high: 0 })
      for (let size = 1; size < 300; size++) {
        const { high, low } = sharedBucketOf(name, size, ways)
        expect(high % ways).toBe(0)
        expect(size >= low && size <= high, `${name} ${size}: ${low}..${high}`).toBe(true)
        expect(sharedBucketOf(name, low, ways)).toEqual({ low, high })
        expect(high).toBeLessThan(bucketOf(name, size).high + ways)
      }
      expect(sharedBucketOf(name, 77, 1)).toEqual(bucketOf(name, 77))
    }
  })
})
