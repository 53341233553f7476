#!/usr/bin/env node
/**
 * `exp` of the installed package, on whatever Node >= 20 the machine has. Overtone needs Node 24 (it runs users'
 * TypeScript by stripping types): where that is what runs this, the command starts in this very process; else the Node
 * that was installed with the package is started with it.
 */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const needed = 24

const pinned = () => {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve("node/package.json"))
    return ["bin/node", "bin/node.exe"].map((path) => join(folder, path)).find((path) => existsSync(path))
  } catch {
    return undefined
  }
}

if (Number(process.versions.node.split(".")[0]) >= needed) {
  await import("./compileCache.mjs")
  const { start } = await import("../main.js")
  start()
} else {
  const node = pinned()
  if (node === undefined) {
    console.error(
      `exp: this is Node ${process.versions.node}, and Overtone needs Node ${needed}. It comes with the package by an install script: run \`npm rebuild node\`, or install Node ${needed}.`
    )
    process.exit(2)
  }
  const cache = fileURLToPath(new URL("./compileCache.mjs", import.meta.url))
  const main = fileURLToPath(new URL("../main.js", import.meta.url))
  const child = spawn(node, ["--import", cache, main, ...process.argv.slice(2)], { stdio: "inherit" })
  // Ctrl-C reaches the child by itself, as it is of the same group; what is sent to this process alone is handed on.
  process.on("SIGINT", () => undefined)
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}
