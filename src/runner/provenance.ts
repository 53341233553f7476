/**
 * What a run was made with: code, packages, machine. Recorded with every run, part of no key except through the code
 * digest; comparisons read it when bits differ.
 */
import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { arch, cpus, hostname, release } from "node:os"
import { join } from "node:path"
import { hashFile } from "../artifact/folder.ts"
import { nearest, nearestPackage } from "../dsl/resolve.ts"

export interface Provenance {
  readonly git: { readonly commit: string; readonly dirty: boolean } | null
  /** SHA-256 of pnpm-lock.yaml. */
  readonly lockFile: string | null
  readonly packages: Readonly<Record<string, string>>
  readonly node: string
  readonly platform: string
  readonly host: string
  readonly cpu: { readonly model: string; readonly cores: number; readonly features: ReadonlyArray<string> }
}

const output = (file: string, args: ReadonlyArray<string>, cwd: string): Promise<string | undefined> =>
  new Promise((resolve) => {
    execFile(file, [...args], { cwd, timeout: 3000 }, (error, stdout) => resolve(error ? undefined : stdout))
  })

const git = async (dir: string): Promise<Provenance["git"]> => {
  const [commit, status] = await Promise.all([
    output("git", ["rev-parse", "HEAD"], dir),
    output("git", ["--no-optional-locks", "status", "--porcelain"], dir)
  ])
  return commit === undefined || status === undefined ? null : { commit: commit.trim(), dirty: status.trim() !== "" }
}

/** Those instruction-set extensions that numeric libraries choose their kernels by. */
const decisive = /^(sse4_[12]|avx.*|fma|f16c|amx_.*|asimd.*|bf16|i8mm|sve.*|neon|fp16)$/

const features = async (): Promise<ReadonlyArray<string>> => {
  let text = ""
  if (existsSync("/proc/cpuinfo")) {
    text = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? ""
  } else if (process.platform === "darwin") {
    text = (
      (await output("sysctl", ["-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"], "/")) ?? ""
    ).toLowerCase()
  }
  return [...new Set(text.split(/\s+/).filter((word) => decisive.test(word)))].sort()
}

const version = (dir: string, name: string): string | undefined => {
  const home = nearest(dir, join("node_modules", name, "package.json"))
  if (home === undefined) return undefined
  const read: { readonly version?: unknown } = JSON.parse(
    readFileSync(join(home, "node_modules", name, "package.json"), "utf8")
  )
  return typeof read.version === "string" ? read.version : undefined
}

const packages = (dir: string): Readonly<Record<string, string>> => {
  const home = nearestPackage(dir)
  if (home === undefined) return {}
  const manifest: { readonly dependencies?: Readonly<Record<string, string>> } = JSON.parse(
    readFileSync(join(home, "package.json"), "utf8")
  )
  const found = Object.keys(manifest.dependencies ?? {}).map((name) => [name, version(home, name)] as const)
  return Object.fromEntries(found.filter((entry): entry is readonly [string, string] => entry[1] !== undefined))
}

/** @param project a folder of the project whose code runs. */
export const provenance = async (project: string): Promise<Provenance> => {
  const lock = nearest(project, "pnpm-lock.yaml")
  const [commit, lockFile, flags] = await Promise.all([
    git(project),
    lock === undefined ? null : hashFile(join(lock, "pnpm-lock.yaml")).then((h) => h.sha256),
    features()
  ])
  const all = cpus()
  return {
    git: commit,
    lockFile,
    packages: packages(project),
    node: process.versions.node,
    platform: `${process.platform}-${arch()} ${release()}`,
    host: hostname(),
    cpu: { model: all[0]?.model.trim() ?? "unknown", cores: all.length, features: flags }
  }
}
