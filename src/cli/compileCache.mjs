/**
 * Loaded before `main.ts` (`node --import`): Node keeps what it compiles, here and in the worker processes, so that a
 * command that has nothing to do ends sooner. Keyed by the source's hash; a folder that cannot be written is no error.
 * Plain JavaScript, since it is the one module that is compiled anew each time: typed, it would load the type stripper.
 */
import { enableCompileCache } from "node:module"
import { join } from "node:path"

const folder =
  process.env.NODE_COMPILE_CACHE ?? join(import.meta.dirname, "..", "..", "node_modules", ".cache", "compile")

if (enableCompileCache(folder).directory !== undefined) process.env.NODE_COMPILE_CACHE = folder
