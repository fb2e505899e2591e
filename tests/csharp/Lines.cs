// Writes the lines that mcs tells in a file of its own (IN.dll.mdb) as the compilers of .NET do: in a
// portable PDB beside the assembly, or packed in it. Mono.Cecil writes it, which shares no code with
// fleetprof's reader.
//   mono Lines.exe IN.dll OUT.dll beside|embedded

using System.Collections.Generic;
using Mono.Cecil;
using Mono.Cecil.Cil;
using Mono.CompilerServices.SymbolWriter;

public static class Lines
{
    // Cecil writes no line but this one for instructions that the compiler hides.
    const int Hidden = 0xfeefee;

    static SequencePoint Point(Instruction at, Document document, LineNumberEntry line)
    {
        var point = new SequencePoint(at, document);
        point.StartLine = point.EndLine = line.IsHidden ? Hidden : line.Row;
        point.StartColumn = line.IsHidden ? 0 : 1;
        point.EndColumn = line.IsHidden ? 0 : 2;
        return point;
    }

    static void Tell(MethodDefinition method, MethodEntry entry, Document document)
    {
        var instructions = new Dictionary<int, Instruction>();
        foreach (var each in method.Body.Instructions) instructions[each.Offset] = each;
        foreach (var line in entry.GetLineNumberTable().LineNumbers)
        {
            Instruction at;
            if (instructions.TryGetValue(line.Offset, out at))
                method.DebugInformation.SequencePoints.Add(Point(at, document, line));
        }
    }

    public static void Main(string[] arguments)
    {
        var module = ModuleDefinition.ReadModule(arguments[0]);
        var documents = new Dictionary<string, Document>();
        foreach (var entry in MonoSymbolFile.ReadSymbolFile(arguments[0] + ".mdb").Methods)
        {
            var file = entry.CompileUnit.SourceFile.FileName;
            if (!documents.ContainsKey(file)) documents[file] = new Document(file);
            Tell((MethodDefinition) module.LookupToken(entry.Token), entry, documents[file]);
        }
        var how = new WriterParameters { WriteSymbols = true };
        if (arguments[2] == "embedded") how.SymbolWriterProvider = new EmbeddedPortablePdbWriterProvider();
        else how.SymbolWriterProvider = new PortablePdbWriterProvider();
        module.Write(arguments[1], how);
    }
}
