// Checks an AsyncAPI document with the official parser: node check.mjs FILE. Every error and every warning fails it.
import { readFile } from 'node:fs/promises';
import { DiagnosticSeverity, Parser } from '@asyncapi/parser';

const [file] = process.argv.slice(2);
const found = await new Parser().validate(await readFile(file, 'utf8'));
for (const { severity, path, range, message } of found) {
	console.log(`${file}:${range.start.line + 1}: ${DiagnosticSeverity[severity]}: ${message} (${path.join('/')})`);
}
const wrong = found.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
console.log(`${wrong.length} errors and warnings`);
process.exitCode = wrong.length > 0 ? 1 : 0;
