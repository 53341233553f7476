/** The root command: what every command takes, and the two questions every command asks (where, on what). */
import { existsSync, statSync } from "node:fs"
import { dirname, isAbsolute, join, resolve } from "node:path"
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { usage } from "./failure.ts"

export const devices = ["auto", "cpu", "webgpu", "xla:cpu", "xla:cuda"] as const

export const root = Command.make("exp").pipe(
  Command.withSharedFlags({
    warehouse: Flag.String("warehouse").pipe(
      Flag.withDescription("Folder of databases, journals and artifacts (default: warehouse/store in the project)"),
      Flag.withMetavar("DIR"),
      Flag.optional
    ),
    device: Flag.Literals("device", devices).pipe(
      Flag.withDescription("What computes; auto never picks a software adapter"),
      Flag.withDefault("auto")
    )
  }),
  Command.withDescription(
    "Experiments on pluralistic alignment: one YAML file is one ablation, and SQL answers what it found."
  )
)

/** `--json` of the commands that have people's and machines' output. */
export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print JSON on stdout and nothing else there"),
  Flag.withDefault(false)
)

/** `--set key=value`, any number of times; values are YAML and may contain `=`. */
export const set = Flag.String("set").pipe(
  Flag.withDescription("Override a parameter, e.g. grpo.steps=10 (repeatable; the value is YAML)"),
  Flag.withMetavar("KEY=VALUE"),
  Flag.atLeast(0)
)

/** Backends of other versions are named as such, not as unknown words. */
export const device = Effect.gen(function* () {
  const { device } = yield* root
  if (device === "auto" || device === "cpu") return "cpu" as const
  return yield* usage(
    `device ${device} is not in this version: it computes on the CPU (--device cpu, or auto). \`exp doctor\` says what this machine has.`
  )
})

const nearestPackage = (from: string): string | undefined => {
  for (let dir = resolve(from); ; dir = dirname(dir)) {
    if (existsSync(join(dir, "package.json"))) return dir
    if (dirname(dir) === dir) return undefined
  }
}

/** The nearest folder at or above `from`, else the working directory, with a `package.json`; that itself where there is none. */
export const projectRoot = (from: string): string =>
  nearestPackage(from) ?? nearestPackage(process.cwd()) ?? process.cwd()

/** A path as typed: relative to the working directory, or to where `pnpm` was called (it changes to the project's root). */
export const located = (path: string): string => {
  if (isAbsolute(path) || existsSync(path)) return resolve(path)
  const called = process.env["INIT_CWD"]
  return called !== undefined && existsSync(join(called, path)) ? join(called, path) : resolve(path)
}

/** The warehouse folder: `--warehouse`, else `warehouse/store` of the project that `near` (a file's folder) belongs to. */
export const warehouseDir = Effect.fnUntraced(function* (near: string = process.cwd()) {
  const { warehouse } = yield* root
  const dir = Option.isSome(warehouse) ? resolve(warehouse.value) : join(projectRoot(near), "warehouse", "store")
  let there = dir
  while (!existsSync(there)) there = dirname(there)
  if (statSync(there).isDirectory()) return dir
  return yield* usage(`${there} is a file: a warehouse is a folder; --warehouse names another`)
})
