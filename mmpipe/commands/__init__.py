"""The commands of `mmpipe`, each module one group of them: check the arguments, call the library, print."""
