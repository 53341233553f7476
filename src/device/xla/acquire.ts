/** A plugin's client for as long as a scope is open, with at least as many devices as a mesh has. */
import { Effect, type Scope } from "effect"
import { type DeviceError, deviceError, LibraryMissing, MeshUnfit } from "../DeviceError.ts"
import { type Mesh, meshDevices, meshText } from "../mesh.ts"
import type { Client } from "./Client.ts"
import { openFailure } from "./failure.ts"
import { closeClient, openClient, PluginAbsent } from "./openClient.ts"
import { PjrtFailure } from "./pjrt.ts"
import { mostCpuDevices, type Plugin } from "./plugins.ts"

const unfit = (mesh: Mesh, detail: string) => deviceError(new MeshUnfit({ mesh: meshText(mesh), detail }))

/** Fails where the plugin or its devices are absent, or fewer than the mesh has. */
export const acquire = Effect.fnUntraced(function* (
  plugin: Plugin,
  mesh: Mesh | undefined
): Effect.fn.Return<Client, DeviceError, Scope.Scope> {
  const wanted = mesh === undefined ? 1 : meshDevices(mesh)
  if (mesh !== undefined && plugin.name === "cpu" && wanted > mostCpuDevices) {
    return yield* unfit(mesh, `it has ${wanted} devices; ${plugin.provider} shows ${mostCpuDevices} at most`)
  }
  const options = plugin.name === "cpu" ? { cpuDevices: wanted } : {}
  const client = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () => openClient(plugin, options),
      catch: (error) => {
        if (error instanceof PluginAbsent) return deviceError(new LibraryMissing({ detail: error.message }))
        if (error instanceof PjrtFailure) return openFailure(plugin.provider, error)
        throw error
      }
    }),
    () => Effect.promise(() => closeClient(plugin, options))
  )
  const there = client.devices.length
  if (mesh !== undefined && there < wanted) {
    const found = there === 1 ? "one device" : `${there} devices`
    return yield* unfit(mesh, `it has ${wanted} devices, and ${plugin.provider} has ${found} here`)
  }
  return client
})
