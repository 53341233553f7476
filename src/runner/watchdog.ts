/**
 * A thread beside the stage that ends the worker when its supervisor is gone. It has its own event loop, so it works
 * while the main thread sits in a native call. An orphan shows by its parent: the system gives it another one.
 */
import { workerData } from "node:worker_threads"

const { supervisor } = workerData as { readonly supervisor: number }
const everyMs = 500

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return cause instanceof Error && "code" in cause && cause.code === "EPERM"
  }
}

setInterval(() => {
  if (process.ppid !== supervisor || !alive(supervisor)) process.kill(process.pid, "SIGKILL")
}, everyMs)
