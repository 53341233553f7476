/**
 * The real programs compiled for an H100 that is not here, and what XLA says of them: memory at its peak, operations against
 * the closed formula, what is written over its argument, whether attention is fused, what is multiplied in which dtype, bytes
 * between cards. Nothing is executed, so nothing here is a speed.
 *
 *   node bench/aot.ts [--folder DIR] [work ...]      a JSON object a work; DIR keeps modules as text and executables
 *
 * Needs `exp device install nvidia-compiler`. Works are compiled one after the other, each in a process of its own.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { axisSize, type MeshAxis, meshDevices, parseMesh } from "../src/device/mesh.ts"
import { compileFor } from "../src/device/xla/aot/compileFor.ts"
import { Topology } from "../src/device/xla/aot/Topology.ts"
import { h100 } from "../src/device/xla/aot/targets.ts"
import { accountOf } from "../src/device/xla/hlo/account.ts"
import { openPlugin } from "../src/device/xla/openClient.ts"
import { locateCompiler } from "../src/device/xla/plugins.ts"
import { type Work, works } from "./aotWorks.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { folder: { type: "string" }, child: { type: "boolean", default: false } }
})

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)

const compile = async (name: string, work: Work) => {
  const mesh = parseMesh(undefined, work.mesh ?? "data=1")
  const ways = (axis: MeshAxis) => (mesh === undefined ? 1 : axisSize(mesh, axis))
  /** Among how many cards weights and moments are shared out. */
  const sharing = ways("fsdp") * ways("model")
  const {
    dtype,
    expected: formula,
    program,
    resident,
    residents,
    scores,
    sizes,
    stored
  } = work.make({ batch: ways("data") * ways("fsdp"), weights: sharing })
  const cards = mesh === undefined ? 1 : meshDevices(mesh)
  const { hosts = 1 } = work
  const topology = new Topology(openPlugin(locateCompiler()), h100, cards, hosts)
  const before = process.cpuUsage()
  const { compiled, written } = await compileFor(topology, program, sizes, {
    dtype,
    stored,
    ...(mesh === undefined ? {} : { over: { mesh, residents } })
  })
  const spent = process.cpuUsage(before)
  const shapeOf = (name: string) => written.inputs.find((port) => port.name === name)!.shape
  const expected = formula(shapeOf)
  const { time, width } = scores(shapeOf)
  const memory = compiled.memory()
  const hlo = compiled.module()
  const { attentionFlops, betweenHosts, calls, collectives, products } = accountOf(hlo, cards / hosts)
  if (values.folder !== undefined) {
    mkdirSync(values.folder, { recursive: true })
    writeFileSync(join(values.folder, `${name}.mlir`), written.text)
    writeFileSync(join(values.folder, `${name}.pjrt`), compiled.serialize())
  }
  const flops = sum(products.map((product) => product.flops))
  const donated = written.inputs.flatMap(({ name: input }, i) =>
    [...written.donate.values()].includes(input) ? [i] : []
  )
  const peak = memory.peak ?? memory.arguments + memory.outputs - memory.aliased + memory.temporary
  return {
    work: name,
    target: h100.name,
    /** That share it; all numbers below are one card's. */
    cards,
    dtype,
    /** Of the processor, `ptxas` aside: others on the machine disturb it less than the clock. */
    compileSeconds: (spent.user + spent.system) / 1e6,
    peakBytes: peak,
    /** With the tensors that stay on the card and are no argument of this program: optimizer state, adapters' moments. */
    peakWithStateBytes: peak + resident / sharing,
    ...memory,
    flops,
    flopsByFormula: expected.products,
    flopsRatio: (flops * cards) / expected.products,
    attentionFlops,
    attentionFlopsByFormula: expected.attention,
    float32Flops: sum(products.filter((product) => product.dtype === "f32").map((product) => product.flops)),
    donatedArguments: donated.length,
    overwrittenArguments: hlo.overwritten.length,
    notOverwritten: donated.filter((i) => !hlo.overwritten.includes(i)).map((i) => written.inputs[i]!.name),
    fusedAttention: Object.fromEntries(Object.entries(calls).filter(([target]) => target.startsWith("__cudnn$fmha"))),
    scoreMatrices: products.filter(
      ({ depth, shape: { dims } }) => dims.length > 2 && dims.at(-1) === time && depth === width
    ).length,
    collectiveBytes: collectives,
    hosts,
    /** Of these, what comes of exchanges between hosts. */
    betweenHostsBytes: betweenHosts
  }
}

const wanted = positionals.length > 0 ? positionals : Object.keys(works)
for (const name of wanted) {
  const work = works[name]
  if (work === undefined) throw new Error(`there is no work ${name}; there are ${Object.keys(works).join(", ")}`)
  if (values.child) console.log(JSON.stringify(await compile(name, work)))
  else {
    const folder = values.folder === undefined ? [] : ["--folder", values.folder]
    const flags = ["--disable-warning=ExperimentalWarning", "--max-old-space-size=8192"]
    const { signal, status } = spawnSync(
      process.execPath,
      [...flags, import.meta.filename, "--child", ...folder, name],
      { stdio: ["ignore", "inherit", "inherit"] }
    )
    if (status !== 0) {
      console.error(`${name}: ended with ${signal ?? status}`)
      process.exitCode = 1
    }
  }
}
