from pipesync.sandbox.hubspot.process import main

main()
