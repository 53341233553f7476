/** What `exp doctor` looks at: one function a question, each answering with what there is and, where it falls short, a remedy. */
import { existsSync, readFileSync, statfsSync } from "node:fs"
import { availableParallelism, cpus, totalmem } from "node:os"
import { dirname } from "node:path"
import { Result } from "effect"
import manifest from "../../package.json" with { type: "json" }
import type { Missing } from "../device/look.ts"
import type { Cards } from "../device/xla/cards.ts"
import type { Executor } from "../dsl/executor.ts"
import { type InvalidExecutor, problemText } from "../dsl/problems.ts"
import { called, installed } from "./called.ts"
import { look } from "./executor.ts"
import { bytes } from "./format.ts"
import { nearby } from "./root.ts"

export interface Check {
  readonly name: string
  readonly state: "ok" | "warn" | "fail"
  readonly detail: string
  /** What to do about it; null where nothing need be done. */
  readonly remedy: string | null
}

const ok = (name: string, detail: string): Check => ({ name, state: "ok", detail, remedy: null })
const warn = (name: string, detail: string, remedy: string): Check => ({ name, state: "warn", detail, remedy })
const fail = (name: string, detail: string, remedy: string): Check => ({ name, state: "fail", detail, remedy })

const reinstall = installed
  ? "Run `npm install` in the project's folder."
  : "Run `npx -y pnpm@10 install` in the project's folder; no install script of the package is needed."
const said = (error: unknown): string => (error instanceof Error ? error.message : String(error)).split("\n")[0]!

const node = (): Check => {
  const wanted = manifest.devDependencies.node
  const major = (version: string) => Number(version.split(".")[0])
  return major(process.versions.node) >= major(wanted)
    ? ok("node", `${process.versions.node} (${process.platform}-${process.arch})`)
    : fail(
        "node",
        `${process.versions.node}, and ${wanted} is wanted`,
        `Call \`${called} ...\`: the project brings its own Node from npm.`
      )
}

const pnpm = (): Check => {
  const agent = /^pnpm\/(\S+)/.exec(process.env["npm_config_user_agent"] ?? "")?.[1]
  return agent === undefined
    ? warn("pnpm", "not called through pnpm", "`npx -y pnpm@10 exp ...` checks the dependencies before each command.")
    : agent.startsWith("10.")
      ? ok("pnpm", agent)
      : warn("pnpm", agent, "The lock file is pnpm 10's: use `npx -y pnpm@10`.")
}

const cores = (): Check => {
  const n = availableParallelism()
  const detail = `${n} x ${cpus()[0]?.model.trim() || "unknown processor"}`
  return n >= 2
    ? ok("cores", detail)
    : warn("cores", detail, "The quickstart runs two tasks at once where there are two cores.")
}

/** The vector extensions that kernels choose by; bits of results are promised only where they are equal. */
export const instructionSet = (cpuinfo: string | null, arch: string = process.arch): string => {
  const flags = new Set(
    /^(?:flags|Features)\s*:(.*)$/m
      .exec(cpuinfo ?? "")?.[1]
      ?.trim()
      .split(/\s+/) ?? []
  )
  const known = [
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "asimd",
    "asimddp",
    "sve",
    "i8mm",
    "bf16"
  ]
  const found = known.filter((flag) => flags.has(flag))
  return [arch, ...found].join(" ")
}

const instructions = (): Check => {
  const cpuinfo = existsSync("/proc/cpuinfo") ? readFileSync("/proc/cpuinfo", "utf8") : null
  const set = instructionSet(cpuinfo)
  return process.arch === "x64" && cpuinfo !== null && !set.includes("avx2")
    ? warn("instructions", set, "Without AVX2 the runtime's kernels are several times slower.")
    : ok("instructions", set)
}

const memory = (): Check => {
  const limit = process.constrainedMemory()
  const total = limit > 0 && limit < totalmem() ? limit : totalmem()
  const detail = `${bytes(total)}, ${bytes(process.availableMemory())} available`
  return process.availableMemory() >= 3 * 2 ** 30
    ? ok("memory", detail)
    : warn("memory", detail, "The quickstart takes up to 3 GiB with two jobs; `--jobs 1` takes about half.")
}

const disk = (dir: string): Check => {
  let near = dir
  while (!existsSync(near)) near = dirname(near)
  const { bavail, bsize } = statfsSync(near)
  const free = bavail * bsize
  return free >= 2e9
    ? ok("disk", `${bytes(free)} free at ${near}`)
    : warn("disk", `${bytes(free)} free at ${near}`, "Free some, or put the warehouse elsewhere with --warehouse DIR.")
}

const koffi = async (): Promise<Check> => {
  try {
    const { default: koffi } = await import("koffi")
    return ok("koffi", koffi.version)
  } catch (error) {
    return fail("koffi", said(error), reinstall)
  }
}

const onnxruntime = async (): Promise<Check> => {
  try {
    const { locateLibrary } = await import("../device/onnx/library.ts")
    const found = locateLibrary()
    if ("missing" in found) return fail("onnxruntime", found.missing, reinstall)
    const { openOrt } = await import("../device/onnx/api.ts")
    return ok("onnxruntime", `${openOrt(found.path).version} (provider cpu), ${found.path}`)
  } catch (error) {
    return fail("onnxruntime", said(error), reinstall)
  }
}

const duckdb = async (): Promise<Check> => {
  try {
    const { version } = await import("@duckdb/node-api")
    return ok("duckdb", version())
  } catch (error) {
    return fail("duckdb", said(error), reinstall)
  }
}

/** The cards behind NVIDIA's plugin, and the driver. */
const cuda = async (plugin: string, looking: () => Promise<Cards | Missing>): Promise<Check> => {
  const { driver } = await import("../device/xla/cards.ts")
  const found = await looking()
  if ("missing" in found) {
    return warn("xla cuda", plugin, `--device xla:cuda has nothing to compute on: ${found.missing}`)
  }
  const cards = found.cards.map(({ kind, memory }) => (memory === null ? kind : `${kind} (${bytes(memory)})`))
  return ok("xla cuda", `${plugin}; driver ${driver() ?? "unknown"}; ${cards.join(", ")}`)
}

/** Several hosts, where the environment speaks of them. */
export const several = async (
  environment: Readonly<Record<string, string | undefined>>
): Promise<ReadonlyArray<Check>> => {
  const { addressText, BadHosts, hostsOf } = await import("../device/hosts.ts")
  try {
    const named = hostsOf(environment)
    if (named === undefined) return []
    const here = `host ${named.id} of ${named.count}, which meet at ${addressText(named.coordinator)}`
    return [
      warn(
        "hosts",
        here,
        "Tasks have one host in this version; `exp device hosts`, run on each, tries a client over all."
      )
    ]
  } catch (error) {
    if (error instanceof BadHosts)
      return [fail("hosts", error.message, "Correct it, or unset it: docs/gpu.md, Several hosts.")]
    throw error
  }
}

/** Plugins of XLA: installed and of a version that is spoken here, or what would bring them. */
const xla = async (looking: () => Promise<Cards | Missing>): Promise<ReadonlyArray<Check>> => {
  const { installCommand, locatePlugin, mostCpuDevices, plugins } = await import("../device/xla/plugins.ts")
  const checks: Array<Check> = []
  for (const plugin of plugins) {
    const located = locatePlugin(plugin)
    if ("missing" in located) {
      // other makers' plugins are shown where they are
      if (plugin.untried === undefined)
        checks.push(ok(`xla ${plugin.name}`, `not installed (\`${installCommand(plugin)}\` would bring it)`))
      continue
    }
    if (plugin.untried !== undefined) {
      const there = `${plugin.provider} ${plugin.version}, ${located.path}`
      checks.push(warn(`xla ${plugin.name}`, there, `Not run by us. It needs ${plugin.untried}.`))
      continue
    }
    try {
      const { Pjrt } = await import("../device/xla/pjrt.ts")
      const { major, minor } = new Pjrt(located.path).version
      const there = `${plugin.provider} ${plugin.version} (PJRT ${major}.${minor}), ${located.path}`
      checks.push(
        plugin.name === "cpu"
          ? ok("xla cpu", `${there}; shows as many devices as --devices N asks for, ${mostCpuDevices} at most`)
          : await cuda(there, looking)
      )
    } catch (error) {
      checks.push(fail(`xla ${plugin.name}`, said(error), `Remove ${located.path} and install it again.`))
    }
  }
  return checks
}

/** The adapter that `--device webgpu` would compute on. */
const webgpu = async (): Promise<Check> => {
  const { findAdapter } = await import("../device/onnx/webgpu/adapter.ts")
  const found = await findAdapter()
  if ("missing" in found) return ok("webgpu", `no adapter (${found.missing.split(";")[0]})`)
  const { name, software } = found.adapter
  return ok("webgpu", software ? `${name}: computes on the CPU, for tests` : name)
}

/** The file that says where tasks run, and whether what it asks for is here. */
const executor = async (
  said: Result.Result<Executor, InvalidExecutor> | undefined,
  looking: () => Promise<Cards | Missing>
): Promise<Check> => {
  if (said === undefined) return ok("executor", "no executor.yaml: flags say where tasks run, else it is the CPU")
  if (Result.isFailure(said)) {
    const [first, ...others] = said.failure.errors
    const more = others.length === 0 ? "" : ` (and ${others.length} more)`
    return fail(
      "executor",
      `${first === undefined ? "" : problemText(first)}${more}`,
      "Mend it; docs/running.md has its keys."
    )
  }
  const { executorText } = await import("../dsl/executor.ts")
  const { device, file, mesh } = said.success
  const text = `${nearby(file)}: ${executorText(said.success)}`
  const provider = device === "auto" ? "cpu" : device
  const found = await look(provider, looking)
  if ("missing" in found) return warn("executor", text, `${provider} is not here: ${found.missing}`)
  const { misfit } = await import("../device/misfit.ts")
  const unfit = mesh && misfit(provider, mesh, found.cards)
  return unfit === undefined ? ok("executor", text) : warn("executor", text, `${unfit}: a run would refuse.`)
}

const warehouse = (dir: string): Check =>
  ok("warehouse", existsSync(`${dir}/overtone.duckdb`) ? dir : `${dir} (nothing in it yet)`)

/**
 * All checks, in the order in which a person would read them.
 * @param executorSaid what the executor file says; undefined where there is none
 */
export const examine = async (
  warehouseDir: string,
  executorSaid?: Result.Result<Executor, InvalidExecutor>
): Promise<ReadonlyArray<Check>> => {
  let found: Promise<Cards | Missing> | undefined
  // one look for all who ask, and none where nobody does: it opens the plugin
  const looking = () => {
    found ??= import("../device/xla/cards.ts").then(({ findCards }) => findCards())
    return found
  }
  return [
    node(),
    ...(installed ? [] : [pnpm()]),
    cores(),
    instructions(),
    memory(),
    disk(warehouseDir),
    await koffi(),
    await onnxruntime(),
    await duckdb(),
    ...(await xla(looking)),
    ...(await several(process.env)),
    await webgpu(),
    await executor(executorSaid, looking),
    warehouse(warehouseDir)
  ]
}
