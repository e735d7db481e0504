// Prints the licences of what the bundle contains: all packages that are not for building alone.

import { readFileSync, readdirSync } from 'node:fs'

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'))
console.log('The playground page contains these packages.')
for (const [path, { version, license, dev, optional }] of Object.entries(packages).sort()) {
  if (path === '' || dev || optional) continue
  const file = readdirSync(path).find(name => /^licen[cs]e/i.test(name))
  const text = file ? readFileSync(`${path}/${file}`, 'utf8').trim() : `Licence: ${license}`
  console.log(`\n${'='.repeat(78)}\n${path.replace(/^.*node_modules\//, '')} ${version} (${license})\n\n${text}`)
}
